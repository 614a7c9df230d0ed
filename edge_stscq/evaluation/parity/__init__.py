"""Parity of an artefact with the full-precision model: tokens, decoded faces, identity, verification accuracy."""

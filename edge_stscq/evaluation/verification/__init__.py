"""Verification of identity on pairs of faces: the protocol, and what survives at each layer."""

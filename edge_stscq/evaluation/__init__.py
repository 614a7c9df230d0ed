"""How good a codec is: parity of an artefact with the full-precision model, and verification of the faces it keeps."""

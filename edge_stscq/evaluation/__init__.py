"""Evaluation of a codec: verification, parity of artifacts with the full-precision model, rate and speed."""

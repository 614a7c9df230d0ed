"""Switchable Token-Specific Codebook Quantization for faces, from camera to server."""

__version__ = "0.1.0"

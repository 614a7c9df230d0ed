"""Limits of the formats, which every reader and writer of them keeps."""

MAX_LAYERS = 15
"""The format's limit; the tables say how many layers a model has."""

"""Accuracy against bytes: this codec beside baseline codecs."""

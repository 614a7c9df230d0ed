"""Appearance of decoded faces to people: metrics by networks that no loss of the training saw."""

"""Encoder whose arithmetic is whole numbers, the same in training and on every device."""

"""Configuration that users write: codec, training recipe and parity thresholds, as frozen and validated models."""

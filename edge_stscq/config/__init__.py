"""What users write: codec configuration, training recipe and parity thresholds, as frozen and validated models."""

"""Face crops for training and evaluation: read from folders and archives, augmented, embedded once."""

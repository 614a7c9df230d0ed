"""Steps from each layout of the key file to the next."""

"""Pictures that lie in files: one file, a folder of them, a film and its container."""

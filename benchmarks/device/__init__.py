"""Benchmarks of encoders and of training on this machine."""

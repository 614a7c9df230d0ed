"""Benchmarks of the server under load."""

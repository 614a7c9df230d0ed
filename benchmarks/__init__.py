"""Benchmarks: scripts that measure, and their results as JSON; `python -m benchmarks.<name> --help`."""

"""What is measured, the script that measures it, and the results as JSON: `python -m benchmarks.<name> --help`."""

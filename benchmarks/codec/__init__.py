"""Benchmarks of the codec: ablation, fairness, rate and verification."""

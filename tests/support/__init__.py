"""Helpers of the tests: small models, made-up bundles and streams, and what must be installed."""

"""Helpers of the tests: what must be installed, servers, stores and streams; rooms for models and for bundles."""

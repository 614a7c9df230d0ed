"""The parity of bundles as one self-contained HTML page."""

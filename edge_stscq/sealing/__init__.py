"""Sealing of what lies on a disk: authenticated encryption under keys that are kept apart from it."""

"""Accepted frames in SQLite or PostgreSQL, and what follows their changes."""

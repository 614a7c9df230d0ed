"""Layouts of the token file, one Alembic revision each; see `storage.migrations`."""

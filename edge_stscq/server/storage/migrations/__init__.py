"""Layouts of the store, one Alembic revision each; `layout` runs them when a store is opened.

To change the layout, change `tables.py` and add a file to `versions`. Released files are never edited.
"""

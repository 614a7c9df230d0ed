"""The store's layouts, one Alembic revision each; `database` runs them when a store is opened.

To change the layout, change `schema.py` and add a file to `versions`. Released files are never edited.
"""

"""Visits and persons: which faces are of one visit, which visits of one person, and what people made of it by hand."""

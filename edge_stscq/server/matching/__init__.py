"""Stored faces found by example, told from their tokens alone."""

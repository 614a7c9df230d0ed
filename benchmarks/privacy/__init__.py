"""Attacks on protected templates, and what protection costs."""

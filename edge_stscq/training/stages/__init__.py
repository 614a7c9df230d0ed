"""Stages of training: a task each, which the loop drives step by step and resumes exactly."""

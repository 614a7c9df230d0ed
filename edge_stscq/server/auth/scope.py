"""Scopes of tokens. This module imports nothing heavy: the command line names them in its help."""

from enum import StrEnum


class Scope(StrEnum):
    """Permission of a token. None includes another."""

    SEND = "send"
    READ = "read"
    MATCH = "match"
    ADMIN = "admin"
    DELETE = "delete"
    EDIT = "edit"
    TEMPLATES = "templates"

"""What a device may be called."""

import re

from edge_stscq.errors import EdgeError


def check_device(name: str) -> None:
    """Raise `EdgeError` unless `name` is 1 to 64 of `A-Z a-z 0-9 . _ -`, as every header and file name can carry."""
    if not re.fullmatch(r"[A-Za-z0-9._-]{1,64}", name):
        raise EdgeError(f"{name!r} cannot name a device; use 1 to 64 of A-Z a-z 0-9 . _ -")

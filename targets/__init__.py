"""Targets of the export: one table, which drives validation, aliases, typo hints and the help text.

See `targets/base.py` for what a target is. Nothing here imports torch.
"""

from difflib import get_close_matches

from edge_stscq.bundle import Bundle
from edge_stscq.errors import EdgeError
from targets import coreml, executorch, onnx
from targets.base import Target

__all__ = ["ALL", "TARGETS", "Target", "find", "target_of"]

ALL = "all"
"""The word that stands for every row of the table."""

TARGETS: tuple[Target, ...] = (onnx.TARGET, executorch.TARGET, coreml.TARGET)


def find(name: str) -> tuple[Target, ...]:
    """Rows that `name` stands for: a target, one of its aliases, or `all`; upper and lower case are the same.

    Raises:
        EdgeError: no row has that name; the message lists the names and the closest match.
    """
    wanted = name.strip().lower()
    if wanted == ALL:
        return TARGETS
    names = {word: target for target in TARGETS for word in (target.name, *target.aliases)}
    if wanted in names:
        return (names[wanted],)
    known = ", ".join([target.name for target in TARGETS] + [ALL])
    close = get_close_matches(wanted, [*names, ALL], n=1)
    hint = f"; did you mean {close[0]}?" if close else ""
    raise EdgeError(f"unknown target {name!r}{hint} (targets: {known})")


def target_of(bundle: Bundle) -> Target:
    """The target that a bundle was exported for.

    Raises:
        EdgeError: this version of the program has none of that name.
    """
    return find(bundle.manifest.target)[0]

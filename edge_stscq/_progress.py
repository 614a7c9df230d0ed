"""Callbacks by which long work tells how far it is; bars and tables belong to whoever watches."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

Progress = Callable[[int], None]
"""Called with the number of items finished since the last call."""
Steps = Callable[[str, int | None], AbstractContextManager[Progress]]
"""Begins a step: called with its name and the number of its items, None where that is not known."""


def no_progress(done: int) -> None:
    """Progress that nobody watches."""


@contextmanager
def no_steps(name: str, items: int | None) -> Iterator[Progress]:
    """A step that nobody watches."""
    yield no_progress

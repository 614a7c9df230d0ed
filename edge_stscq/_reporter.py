"""Reporter of long work: what it is at, how far that is, what it has to say. Libraries call it, whoever watches draws.

advance = reporter.task("student", total=20_000, done=5_000)
advance(1, "cosine 0.93")
reporter.say("precision: bfloat16 on CUDA")
"""

from collections.abc import Iterator, Sequence
from typing import Protocol, TypeVar

Item = TypeVar("Item")


class Advance(Protocol):
    """Callback of one task of a reporter."""

    def __call__(self, steps: int = 1, info: str | None = None) -> None:
        """Add finished steps; `info` replaces the text that stands beside them."""


class Reporter(Protocol):
    """Receiver of tasks and lines."""

    def task(self, name: str, total: int, done: int = 0) -> Advance:
        """Begin a task of `total` steps, of which `done` are finished already."""

    def say(self, line: str) -> None:
        """Take a line of text that stays."""


class Silence:
    """Reporter that nobody watches."""

    def task(self, name: str, total: int, done: int = 0) -> Advance:
        return _nothing

    def say(self, line: str) -> None:
        pass


def _nothing(steps: int = 1, info: str | None = None) -> None:
    pass


SILENCE = Silence()


def track(items: Sequence[Item], name: str, reporter: Reporter) -> Iterator[Item]:
    """Yield items, each a step of a task."""
    advance = reporter.task(name, len(items))
    for item in items:
        yield item
        advance()

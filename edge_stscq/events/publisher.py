"""Publishers: they take messages for other programs, bounded, counted, and without ever making anybody wait."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

Message = Mapping[str, str | int | float | None]
"""One message, as JSON takes it."""


@dataclass
class Counts:
    """Messages of one publisher: taken by the other side, and given up (queue full, refused, or unsent at the end)."""

    sent: int = 0
    lost: int = 0


class Publisher(Protocol):
    """Something that takes messages without ever waiting, keeps a bounded number and counts what it gives up."""

    name: str
    counts: Counts

    def start(self) -> None:
        """Begin to publish, in the background."""

    def publish(self, message: Message) -> None:
        """Take one message."""

    def close(self) -> None:
        """Give what waits a short while to leave, and end."""

"""Troubles that last: each is said when it begins and when it is over, however often it is met in between."""

import threading
from collections.abc import Callable


class Notices:
    """Troubles by place, e.g. "camera door" or "mqtt"; for any number of threads.

    Args:
        say: called with `trouble` or `over`, and `place` and `text`.

    Example:
        >>> notices = Notices(print)
        >>> notices.begin("spool door", "the disk is full")
        >>> notices.begin("spool door", "the disk is full")
        >>> notices.end("spool door")
    """

    def __init__(self, say: Callable[..., None]) -> None:
        self._say, self._lock = say, threading.Lock()
        self._texts: dict[str, str] = {}

    def begin(self, place: str, text: str) -> None:
        """Keep the latest words about a place, and say the first."""
        with self._lock:
            new = place not in self._texts
            self._texts[place] = text
        if new:
            self._say("trouble", place=place, text=text)

    def end(self, place: str) -> None:
        """Say that the trouble of a place, if it had any, is over."""
        with self._lock:
            there = self._texts.pop(place, None) is not None
        if there:
            self._say("over", place=place, text="works again")

    def current(self) -> dict[str, str]:
        """Words about each place in trouble."""
        with self._lock:
            return dict(self._texts)

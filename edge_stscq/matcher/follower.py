"""Follower of a server's templates and of the key stores, into a matcher's memory.

The server is asked every second for what came and went. Now and then, and after every time that it did not answer, all
of it is asked for again: whoever restores an older store takes the server down for it, and what is not there any more
is forgotten here, too. The server may be away while the matcher goes on; a key store may not, since nobody could say
then which keys still hold.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from edge_stscq.errors import EdgeError
from edge_stscq.matcher.template_source import TemplateSource
from edge_stscq.privacy import TemplateMatcher

log = logging.getLogger(__name__)

POLL_SECONDS = 1.0
SWEEP_SECONDS = 900.0
"""Between two times that everything is asked for again."""


class Follower:
    """Takes in changes, one page a step; for one thread.

    Attributes:
        keys_failure: reason why the key stores cannot be read; None if they can.
        failure: reason why the server cannot be followed; None if it can.
        complete: True while the matcher has all that the server had at the last look.
    """

    def __init__(
        self, source: TemplateSource, matcher: TemplateMatcher, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._source, self._matcher, self._clock = source, matcher, clock
        self._after, self._swept_at = 0, clock()
        self._seen: set[str] | None = set()
        self.keys_failure: str | None = None
        self.failure: str | None = None
        self.complete = False

    @property
    def reason(self) -> str | None:
        """Reason why not everything can be matched; None if it can."""
        pending = None if self.complete else f"templates are taken in, {len(self._matcher)} so far"
        return self.keys_failure or self.failure or pending

    def read_keys(self) -> None:
        """Look at the key stores; what is wrong stands in `keys_failure`."""
        try:
            self._matcher.refresh()
            self.keys_failure = None
        except EdgeError as error:
            if self.keys_failure is None:
                log.error("nothing is matched: %s", error)
            self.keys_failure = str(error)

    def step(self) -> bool:
        """Take in the next changes; False if there are none for now."""
        self.read_keys()
        if self._seen is None and self._clock() - self._swept_at >= SWEEP_SECONDS:
            self._begin_sweep()
        try:
            found = self._source.changes(self._after)
        except EdgeError as error:
            if self.failure is None:
                log.error("templates cannot be followed now: %s", error)
            self.failure, self.complete = str(error), False
            self._begin_sweep()
            return False
        self._matcher.put(found.templates)
        self._matcher.remove(found.erased)
        self._after, self.failure = found.next, None
        if self._seen is not None:
            self._seen |= {one.face for one in found.templates}
            self._seen -= set(found.erased)
            if found.complete:
                self._matcher.remove(self._matcher.faces() - self._seen)
                self._seen = None
        self.complete = self._seen is None and found.complete
        return not found.complete

    def _begin_sweep(self) -> None:
        self._after, self._seen, self._swept_at = 0, set(), self._clock()


async def _follow(follower: Follower) -> None:
    while True:
        try:
            more = await asyncio.to_thread(follower.step)
        except Exception as error:  # a defect must not end the following in silence
            log.exception("templates cannot be followed now: %s", error)
            follower.failure, follower.complete, more = f"internal error: {type(error).__name__}", False, False
        if not more:
            await asyncio.sleep(POLL_SECONDS)


@asynccontextmanager
async def following(follower: Follower) -> AsyncIterator[None]:
    """Take steps until the block ends."""
    task = asyncio.create_task(_follow(follower), name="templates")
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

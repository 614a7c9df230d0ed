"""Retention: faces go when they are old enough, those of some devices earlier or later than all others."""

import asyncio
import logging
import re
import time
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

from edge_stscq.errors import EdgeError
from edge_stscq.protocol import DEVICE_NAME
from edge_stscq.server.storage.face_store import FaceName, FaceStore

log = logging.getLogger(__name__)

SWEEP_SECONDS = 600.0
"""Between two looks for faces that are too old."""
MANY = 500
"""Faces that go in one transaction; writers get their turn between."""

_UNITS = {"h": 3600.0, "d": 86400.0, "w": 7 * 86400.0}
_PERIOD = re.compile(rf"(?:({DEVICE_NAME})=)?(?:([0-9]{{1,6}})([hdw])|(forever))")


@dataclass(frozen=True)
class Retention:
    """Seconds for which faces are kept, of devices by name and of all others; None keeps them.

    Example:
        >>> Retention.parse(["30d", "door-1=48h", "vault=forever"]).of("door-1")
        172800.0
    """

    default: float | None
    devices: Mapping[str, float | None]

    @classmethod
    def parse(cls, texts: Iterable[str]) -> "Retention":
        """From periods such as `30d`, and `NAME=48h` for one device; h, d and w are hours, days and weeks.

        Raises:
            EdgeError: one is no period, or a device has two.
        """
        found: dict[str, float | None] = {}
        for text in texts:
            match = _PERIOD.fullmatch(text)
            if match is None or (match[2] and not int(match[2])):
                raise EdgeError(f"{text!r} is no period to keep faces for; write 30d, 12h, 8w, NAME=48h, NAME=forever")
            name = match[1] or ""
            if name in found:
                raise EdgeError(f"two periods are given for {name or 'all devices'}; give one")
            found[name] = None if match[4] else int(match[2]) * _UNITS[match[3]]
        return cls(found.pop("", None), found)

    def of(self, device: str) -> float | None:
        """Seconds for which faces of a device are kept."""
        return self.devices.get(device, self.default)

    @property
    def limited(self) -> bool:
        """True if any face is ever too old."""
        return any(period is not None for period in (self.default, *self.devices.values()))


def expire(store: FaceStore, retention: Retention, now: float | None = None) -> int:
    """Erase what is too old, and its bytes; how many faces that were.

    Raises:
        StoreError: the store cannot be used.
    """
    now, gone = time.time() if now is None else now, 0
    rules = [(device, period) for device, period in retention.devices.items()]
    for device, period in [*rules, (None, retention.default)]:
        if period is None:
            continue
        while old := store.expired(now - period, MANY, device, tuple(retention.devices)):
            erased = store.erase([FaceName(face.stream, face.sequence) for face in old], lasting=False)
            if not erased:  # of damaged rows, which no name leads to: `store repair` is for these
                log.error("%d faces that are too old are damaged and stay; see: edge-stscq store check", len(old))
                break
            gone += erased
    if gone:
        store.scrub()
    return gone


@asynccontextmanager
async def retaining(store: FaceStore, retention: Retention) -> AsyncIterator[None]:
    """Erase what is too old, now and every `SWEEP_SECONDS`, until the block ends."""
    task = asyncio.create_task(_sweep(store, retention), name="retention") if retention.limited else None
    try:
        yield
    finally:
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def _sweep(store: FaceStore, retention: Retention) -> None:
    while True:
        try:
            gone = await asyncio.to_thread(expire, store, retention)
            if gone:
                log.info("%d faces were too old and are erased", gone)
        except Exception as error:
            log.error("faces that are too old cannot be erased now: %s", error)
        await asyncio.sleep(SWEEP_SECONDS)

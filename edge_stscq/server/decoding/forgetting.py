"""Pictures of erased faces leave the cache."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from edge_stscq.server.decoding.cache import SingleFlightCache
from edge_stscq.server.storage.change_feed import ChangeFeed
from edge_stscq.server.storage.face_store import ErasedFace

log = logging.getLogger(__name__)

RETRY_SECONDS = 1.0
"""Seconds after which a store that failed is followed again."""


@asynccontextmanager
async def forgetting(cache: SingleFlightCache, feed: ChangeFeed) -> AsyncIterator[None]:
    """Empty the cache whenever a face was erased, until the block ends: a picture does not know whose it is."""
    task = asyncio.create_task(_forget(cache, feed), name="forgetting")
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _forget(cache: SingleFlightCache, feed: ChangeFeed) -> None:
    after = feed.revision
    while True:
        try:
            async for changes in feed.changes(after):
                after = changes[-1].revision
                if any(isinstance(change, ErasedFace) for change in changes):
                    cache.clear()
        except Exception as error:
            log.error("erased faces cannot be followed now: %s", error)
            cache.clear()
            await asyncio.sleep(RETRY_SECONDS)

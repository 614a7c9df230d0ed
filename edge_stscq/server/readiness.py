"""Readiness: whether the server can do now what it will be asked for.

Anybody may ask, as often as he likes. So one probe runs at a time, its result is kept for a second, and it runs in a
thread of its own, where nothing else waits behind it.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from edge_stscq.server.auth.audit_log import AuditTrail
from edge_stscq.server.decoding.backend import DecoderBackend
from edge_stscq.server.storage.database import StoreError
from edge_stscq.server.storage.face_store import FaceStore

KEPT_SECONDS = 1.0
PROBE_SECONDS = 2.0
"""A store that takes longer is not ready; its probe goes on, and the next one begins after it."""


class Readiness:
    """Probes of a store, a decoder and an audit log, for one event loop.

    Attributes:
        confinement: says what the decoder has given up.
    """

    def __init__(
        self, store: FaceStore, backend: DecoderBackend, trail: AuditTrail, confinement: Callable[[], str]
    ) -> None:
        self.confinement = confinement
        self._store, self._backend, self._trail = store, backend, trail
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="readiness")
        self._probe: asyncio.Task[str | None] | None = None
        self._probed = -KEPT_SECONDS

    @property
    def unhealthy_reason(self) -> str | None:
        """Reason to restart the server; None if it is well."""
        return self._backend.load().unhealthy_reason

    async def reason(self) -> str | None:
        """Reason to send the server nothing; None if it is ready."""
        if (unhealthy := self.unhealthy_reason) is not None:
            return unhealthy
        if (rejection := self._backend.rejection()) is not None:
            return str(rejection)
        now = asyncio.get_running_loop().time()
        if self._probe is None or (self._probe.done() and now - self._probed >= KEPT_SECONDS):
            self._probe = asyncio.create_task(self._run())
        try:
            async with asyncio.timeout(PROBE_SECONDS):
                return await asyncio.shield(self._probe)
        except TimeoutError:
            return f"the store has not answered for {PROBE_SECONDS:g} seconds"

    async def _run(self) -> str | None:
        try:
            await asyncio.get_running_loop().run_in_executor(self._thread, self._store.check_writable)
            return await self._trail.unusable_reason()
        except StoreError:
            return "the store cannot be used now; the server's log says why"
        finally:
            self._probed = asyncio.get_running_loop().time()

    def close(self) -> None:
        self._thread.shutdown(wait=False)

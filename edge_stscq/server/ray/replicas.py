"""Replicas on a Ray cluster: those that answer requests, and those that decode.

    camera -> Ray's proxy -> Ingress: the routes of `create_app` -> store
                                 `-> RayDecoderBackend -> DecoderReplica: batches on a device of its own -> PNG

An `Ingress` is stateless but for its store, which it shares with the others: whatever it acknowledged is committed, so
it may be killed at any moment. A `DecoderReplica` only computes, so a face whose replica dies is decoded by another.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from ray import serve
from ray.exceptions import RayActorError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError, ReplicaUnavailableError
from ray.serve.handle import DeploymentHandle

from edge_stscq._images import encode_image
from edge_stscq.codec.execution_profile import profile_for
from edge_stscq.server.app import create_app
from edge_stscq.server.auth.audit_log import audit_log
from edge_stscq.server.decoding.backend import MAX_FAILURES, STALLED_SECONDS, BackendStats, BusyError
from edge_stscq.server.decoding.batcher import run_isolating_failures
from edge_stscq.server.decoding.pool import DecoderPool
from edge_stscq.server.decoding.request import DecodeRequest
from edge_stscq.server.settings import ServerSettings

ATTEMPTS = 3
"""Replicas that are tried for one face when they die under it."""


class DecoderReplica:
    """Decodes faces in batches, on one device or a share of it; `serve.batch` collects them."""

    def __init__(self, settings: ServerSettings) -> None:
        self._pool = DecoderPool(settings.model, settings.device, settings.max_batch)
        self._pool.warm_up()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="decode")
        self._busy_since: float | None = None
        self._failures = 0
        self._batched: Any = serve.batch(
            max_batch_size=profile_for(settings.device, settings.max_batch).max_batch,
            batch_wait_timeout_s=settings.batch_delay,
        )(self._decode_batch)

    async def decode(self, request: DecodeRequest) -> bytes:
        """The PNG of one face."""
        outcome: bytes | Exception = await self._batched(request)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    async def _decode_batch(self, requests: Sequence[DecodeRequest]) -> list[bytes | Exception]:
        """One outcome a request: an exception that is raised here would reach every face of the batch."""
        self._busy_since = time.monotonic()
        try:
            loop = asyncio.get_running_loop()
            outcomes = await loop.run_in_executor(self._thread, run_isolating_failures, self._pngs, requests)
        finally:
            self._busy_since = None
        failed = all(isinstance(outcome, Exception) for outcome in outcomes)
        self._failures = self._failures + 1 if failed else 0
        return outcomes

    def _pngs(self, requests: Sequence[DecodeRequest]) -> list[bytes]:
        return [encode_image(picture) for picture in self._pool.decode(requests)]

    def check_health(self) -> None:
        """Asked by Ray Serve, which replaces a replica that raises here."""
        if self._busy_since is not None and time.monotonic() - self._busy_since > STALLED_SECONDS:
            raise RuntimeError(f"a batch has been running for over {STALLED_SECONDS:g} seconds")
        if self._failures >= MAX_FAILURES:
            raise RuntimeError(f"the last {self._failures} batches failed")


class RayDecoderBackend:
    """The `DecoderBackend` of an `Ingress`: each face goes to the replica that Ray Serve finds least busy.

    Args:
        decode: takes a request, gives an awaitable with `cancel()`; the handle of `DecoderReplica.decode`.
        queue_size: faces that may be under way before `submit` raises `BusyError`.
        deadline: seconds from the arrival of its request until a face must be decoded.
    """

    def __init__(self, decode: "DeploymentHandle[Any]", queue_size: int, deadline: float) -> None:
        self._decode, self._queue_size, self._deadline = decode, queue_size, deadline
        self._begun: dict[object, float] = {}
        self._running = False
        self._failures = 0
        self.on_batch: Callable[[int, float], None] = lambda faces, seconds: None  # batches are run elsewhere

    async def __aenter__(self) -> "RayDecoderBackend":
        self._running = True
        return self

    async def __aexit__(self, *_: object) -> None:
        self._running = False

    def load(self) -> BackendStats:
        """State as the ingress knows it: which of the faces in flight is being decoded, Ray does not say."""
        begun = list(self._begun.values())  # a copy: metrics ask from another thread
        oldest = time.monotonic() - min(begun) if begun else 0.0
        return BackendStats(self._running, len(begun), len(begun), oldest, self._failures)

    def rejection(self, waited: float = 0.0, queued_ahead: int = 0) -> BusyError | None:
        if not self._running:
            return BusyError("the decoder backend is not running")
        if len(self._begun) + queued_ahead >= self._queue_size:
            return BusyError(f"{self._queue_size} faces are waiting already")
        return BusyError(f"a face would wait over {self._deadline:g} s") if waited > self._deadline else None

    async def submit(self, request: DecodeRequest, arrived: float | None = None) -> bytes:
        """See `DecoderBackend.submit`. A caller that goes away takes its face out of the replica's queue."""
        now = asyncio.get_running_loop().time()
        if arrived is None:
            arrived = now
        if (rejection := self.rejection(now - arrived)) is not None:
            raise rejection
        ticket = object()
        self._begun[ticket] = time.monotonic()
        try:
            async with asyncio.timeout_at(arrived + self._deadline):
                png = await self._decoded(request)
        except (BusyError, asyncio.CancelledError):
            raise
        except TimeoutError:
            raise BusyError(f"no decoder came to this face in {self._deadline:g} s") from None
        except Exception:
            self._failures += 1
            raise
        finally:
            del self._begun[ticket]
        self._failures = 0
        return png

    async def _decoded(self, request: DecodeRequest) -> bytes:
        for _ in range(ATTEMPTS):
            response = self._decode.remote(request)
            try:
                png: bytes = await response
                return png
            except asyncio.CancelledError:
                response.cancel()
                raise
            except (RayActorError, ReplicaUnavailableError):
                continue
            except (BackPressureError, DeploymentUnavailableError) as error:
                raise BusyError(f"the decoders take no more: {error}") from None
        raise BusyError(f"{ATTEMPTS} decoders in a row went away")


class Ingress:
    """One replica of the routes. Each writes an audit log of its own, numbered by its rank."""

    def __init__(self, settings: ServerSettings, backend: "DeploymentHandle[Any]", audit: Path) -> None:
        self._settings, self._decode = settings, backend.decode
        self._open = ExitStack()
        self._open.enter_context(audit_log(audit_of(audit, serve.get_replica_context().rank.rank)))

    def __serve_build_asgi_app__(self) -> FastAPI:  # noqa: N807 - the name that serve.ingress() asks for
        settings = self._settings
        return create_app(settings, RayDecoderBackend(self._decode, settings.queue_size, settings.deadline))


def audit_of(audit: Path, rank: int) -> Path:
    """Audit log of the ingress of `rank`: `audit.jsonl` becomes `audit.0.jsonl`, `audit.1.jsonl`, ..."""
    return audit.with_name(f"{audit.stem}.{rank}{audit.suffix}")

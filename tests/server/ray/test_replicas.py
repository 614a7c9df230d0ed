"""Ray's parts without a cluster: the backend, the proxy's rules, and what is refused."""

import asyncio
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from starlette.types import Message, Receive, Scope, Send

from edge_stscq.errors import EdgeError, MissingExtraError
from edge_stscq.server.decoding.backend import BusyError
from edge_stscq.server.decoding.request import DecodeRequest
from edge_stscq.server.ray.deploy import RayOptions, check, parse_replicas, running
from edge_stscq.server.ray.proxy import BoundedBody, NoRayHeaders
from edge_stscq.server.settings import ServerSettings
from edge_stscq.stream import CodedFace

pytestmark = pytest.mark.anyio
REQUEST = DecodeRequest(bytes(8), CodedFace(0, np.zeros(4, np.uint16), 1))
DEADLINE = 30


class Answers:
    """A handle that gives `outcomes` one after the other, each when `go` is set."""

    def __init__(self, *outcomes: bytes | Exception) -> None:
        self.outcomes, self.go, self.cancelled = list(outcomes), asyncio.Event(), 0

    def remote(self, request: DecodeRequest) -> "Answers":
        return self

    def cancel(self) -> None:
        self.cancelled += 1

    def __await__(self):
        yield from self.go.wait().__await__()
        outcome = self.outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome


@pytest.fixture
def replicas():
    pytest.importorskip("ray.serve", reason="Ray is not installed; pip install 'edge-stscq[ray]'")
    from edge_stscq.server.ray import replicas as ray_replicas

    return ray_replicas


async def test_backend_retries_on_dead_replica(replicas) -> None:
    from ray.exceptions import RayActorError

    decode = Answers(RayActorError(), RayActorError(), b"png", *[RayActorError()] * replicas.ATTEMPTS)
    decode.go.set()
    async with replicas.RayDecoderBackend(decode, 4, DEADLINE) as backend:
        assert await backend.submit(REQUEST) == b"png"
        with pytest.raises(BusyError, match="went away"):
            await backend.submit(REQUEST)
        assert (backend.load().queued, backend.load().failures) == (0, 0)
    with pytest.raises(BusyError, match="not running"):
        await backend.submit(REQUEST)


async def test_backend_bounded_and_cancels(replicas) -> None:
    decode = Answers(b"one", ValueError("this very face"))
    async with replicas.RayDecoderBackend(decode, 2, DEADLINE) as backend:
        first, second = (asyncio.ensure_future(backend.submit(REQUEST)) for _ in range(2))
        await asyncio.sleep(0)
        assert backend.rejection() is not None
        assert backend.load().oldest_seconds > 0
        with pytest.raises(BusyError, match="2 faces are waiting"):
            await backend.submit(REQUEST)
        second.cancel()
        with pytest.raises(asyncio.CancelledError):
            await second
        assert (decode.cancelled, backend.load().queued) == (1, 1)
        decode.go.set()
        assert await first == b"one"
        with pytest.raises(ValueError, match="this very face"):
            await backend.submit(REQUEST)
        assert (backend.load().failures, backend.load().oldest_seconds) == (1, 0)


async def test_backend_deadline_exceeded(replicas) -> None:
    decode = Answers(b"late")
    async with replicas.RayDecoderBackend(decode, 2, 0.05) as backend:
        with pytest.raises(BusyError, match=r"no decoder came to this face in 0\.05 s"):
            await backend.submit(REQUEST)
        assert (decode.cancelled, backend.load().queued, backend.load().failures) == (1, 0, 0)
        with pytest.raises(BusyError, match="would wait over"):
            await backend.submit(REQUEST, asyncio.get_running_loop().time() - 1)


async def test_proxy_body_bounded() -> None:
    read = 0

    async def receive() -> Message:
        nonlocal read
        read += 1
        return {"type": "http.request", "body": b"x" * 40, "more_body": True}

    async def greedy(scope: Scope, receive: Receive, send: Send) -> None:
        while True:
            await receive()

    async def send(message: Message) -> None:
        raise AssertionError

    reading = asyncio.create_task(BoundedBody(greedy, limit=100)({"type": "http"}, receive, send))
    for _ in range(10):
        await asyncio.sleep(0)
    assert (read, reading.done()) == (3, False)
    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)


async def test_proxy_drops_ray_headers() -> None:
    seen: list[tuple[bytes, bytes]] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.extend(scope["headers"])

    steering = [b"x-session-id", b"serve_multiplexed_model_id", b"serve-multiplexed-model-id", b"x-request-id"]
    kept = [(b"edge-device", b"door-1"), (b"authorization", b"Bearer x")]
    scope = {"type": "http", "headers": [*kept, *((name, b"1") for name in steering)]}
    await NoRayHeaders(app)(scope, None, None)
    assert seen == kept


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: parse_replicas("2-4"), "give a number or MIN:MAX"),
        (lambda: RayOptions(least=0, most=0), "1 <= MIN <= MAX"),
        (lambda: RayOptions(least=3, most=2), "1 <= MIN <= MAX"),
        (lambda: RayOptions(ingress_replicas=0), "1 or more"),
        (lambda: RayOptions(gpus_per_replica=1.5), "a fraction up to 1 or a whole number"),
    ],
)
def test_options_out_of_range(make: Callable[[], object], message: str) -> None:
    with pytest.raises(EdgeError, match=message):
        make()


def test_parse_replicas() -> None:
    assert (parse_replicas("3"), parse_replicas("1:8")) == ((3, 3), (1, 8))


@pytest.mark.parametrize(
    ("device", "options", "tls", "message"),
    [
        ("cpu", RayOptions(), {"ssl_ca_certs": "ca.pem"}, "does not insist on a client's certificate"),
        ("cpu", RayOptions(address="10.0.0.1:6379"), {}, "cannot share the SQLite file .*postgresql"),
        ("cuda", RayOptions(), {}, "give --gpus-per-replica"),
        ("cpu", RayOptions(gpus_per_replica=0.5), {}, "goes with --accelerator cuda"),
    ],
)
def test_check_unsupported_settings(
    tmp_path: Path, device: str, options: RayOptions, tls: dict[str, str], message: str
) -> None:
    settings = ServerSettings.model_validate({"model": tmp_path, "store": tmp_path / "faces.db", "device": device})
    with pytest.raises(EdgeError, match=message):
        check(settings, options, tls)


def test_check_body_beyond_proxy(tmp_path: Path) -> None:
    settings = ServerSettings(model=(tmp_path,), max_body_bytes="1MiB")  # type: ignore[arg-type]
    check(settings, RayOptions(), {})
    larger = settings.model_copy(update={"max_body_bytes": settings.max_body_bytes + 1})
    with pytest.raises(EdgeError, match="reads 1048576 bytes of a body; set max_body_bytes to no more"):
        check(larger, RayOptions(), {})


def test_running_without_ray(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    settings = ServerSettings(model=tmp_path, store=tmp_path / "faces.db")
    with (
        pytest.raises(MissingExtraError, match=r"pip install 'edge-stscq\[ray\]'"),
        running(settings, RayOptions(), tmp_path / "audit.jsonl"),
    ):
        pass


def test_deployment_options(replicas, tmp_path: Path) -> None:
    from edge_stscq.server.ray.deploy import decoder_deployment, ingress_deployment

    settings = ServerSettings.model_validate(
        {"model": tmp_path, "store": tmp_path / "faces.db", "device": "cuda", "max_batch": 16, "queue_size": 64}
    )
    options = RayOptions(ingress_replicas=3, least=2, most=5, gpus_per_replica=0.25)
    decode = decoder_deployment(settings, options)
    scaling = decode._deployment_config.autoscaling_config
    assert (scaling.min_replicas, scaling.max_replicas, scaling.get_target_ongoing_requests()) == (2, 5, 16)
    assert (decode.max_ongoing_requests, decode.max_queued_requests) == (32, 64)
    assert decode.ray_actor_options["num_gpus"] == 0.25
    assert ingress_deployment(options).num_replicas == 3

"""No more bytes leave a drain than its budget says, whatever the faces look like, and they are counted as they are."""

import random
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import httpx2
import pytest

from edge_stscq.client.byte_budget import Budget, ByteLimiter
from edge_stscq.client.drain import Drain, DrainReport
from edge_stscq.client.sender import Sender
from edge_stscq.client.spool import Spool
from edge_stscq.stream import FrameCodec
from edge_stscq.stream.envelope import CapturedFace, stream_id
from tests.client.face_server import FaceServer
from tests.client.fake_time import Time
from tests.client.filled import NOON, captured, fill
from tests.support.fakes import acknowledgement

Made = list[CapturedFace]
FACES = 200


def drained(
    spool: Spool, server: FaceServer, clock: Time, per_minute: int, transport: httpx2.BaseTransport | None = None
) -> DrainReport:
    server.clock = clock
    bucket = ByteLimiter(Budget(per_minute, 60), clock, clock.sleep)
    with server.sender(sleep=clock.sleep, transport=transport or httpx2.MockTransport(server)) as sender:
        drain = Drain(spool, sender, bucket, sleep=clock.sleep)
        drain.run()
    return drain.report


def assert_kept(server: FaceServer, per_minute: int) -> None:
    """In no stretch of time is there more than one minute's worth and the share of that time."""
    sizes = [(arrival.at, arrival.size) for arrival in server.arrivals]
    for first, (begin, _) in enumerate(sizes):
        total = 0
        for at, size in sizes[first:]:
            total += size
            assert total <= per_minute + (at - begin) * per_minute / 60 + 0.01


APART = {
    "close together": [{} for _ in range(FACES)],
    "an hour between": [{"captured_ms": NOON + 3_600_000 * n} for n in range(FACES)],
    "tracks in turn": [{"track": 1000 * (n % 2)} for n in range(FACES)],
    "some far": [{"captured_ms": NOON + 10**6 * n * (n % 5)} for n in range(FACES)],
}


@pytest.mark.parametrize("envelopes", APART.values(), ids=APART)
def test_no_minute_has_more_bytes_than_the_budget(
    spool: Spool, server: FaceServer, codec: FrameCodec, envelopes: list[dict[str, int]]
) -> None:
    clock, chance = Time(), random.Random(3)
    faces = [captured(codec, n, **envelope) for n, envelope in enumerate(envelopes)]
    fill(spool, faces)
    server.script = [chance.choice((200, 200, 503)) for _ in range(60)]
    report = drained(spool, server, clock, 2000)
    assert_kept(server, 2000)
    assert max(arrival.size for arrival in server.arrivals) <= 2000
    assert report.bytes == sum(arrival.size for arrival in server.arrivals)
    assert (clock.now - 1000) * 2000 / 60 <= report.bytes
    basic = [arrival.at for arrival in server.arrivals if arrival.frames[0].layers == 1]
    assert max(basic) - 1000 < (clock.now - 1000) / 2
    assert server.holds(spool.stream_id, dict(enumerate(faces)))


def test_halves_of_a_refused_request_are_in_the_budget_too(spool: Spool, server: FaceServer, made: Made) -> None:
    fill(spool, made)
    clock = Time()

    def choosy(request: httpx2.Request) -> httpx2.Response:
        answer = server(request)
        if 20 in {frame.number for frame in server.arrivals[-1].frames}:
            return httpx2.Response(400, json={"error": "no"})
        return answer

    report = drained(spool, server, clock, 1500, httpx2.MockTransport(choosy))
    assert (report.refused, report.bytes) == (1, sum(arrival.size for arrival in server.arrivals))
    assert_kept(server, 1500)


def test_a_budget_below_one_request_is_paid_back(spool: Spool, server: FaceServer, made: Made) -> None:
    fill(spool, made[:5])
    clock = Time()
    report = drained(spool, server, clock, 200)
    assert (clock.now - 1000) >= (report.bytes - 200 - server.arrivals[-1].size) * 60 / 200
    assert server.holds(spool.stream_id, dict(enumerate(made[:5])))


@contextmanager
def raw_server(answer: bytes) -> Iterator[tuple[int, list[int]]]:
    """A port, and the bytes of each request that came there, one a connection."""
    sizes: list[int] = []

    def serve() -> None:
        while True:
            try:
                wire, _ = listener.accept()
            except OSError:
                return
            with wire:
                got = b""
                while b"\r\n\r\n" not in got:
                    got += wire.recv(1)
                length = int(got.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
                body = b""
                while len(body) < length:
                    body += wire.recv(length)
                wire.settimeout(0.05)
                with suppress(TimeoutError):
                    body += wire.recv(1)
                sizes.append(len(got) + len(body))
                wire.sendall(answer)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listener.getsockname()[1], sizes
        listener.shutdown(socket.SHUT_RDWR)
    thread.join()


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("token", [None, "t" * 43])
def test_a_request_has_exactly_the_bytes_that_are_counted(made: Made, version: int, token: str | None) -> None:
    """On the wire, header and body, also after an answer that sets a cookie."""
    content = acknowledgement("cam", 0, 1).encode()
    head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(content)}\r\nSet-Cookie: a={'b' * 100}; Path=/\r\n"
    answer = head.encode() + b"Connection: close\r\n\r\n" + content
    counted: list[int] = []
    key = bytes(16)
    frames = made[0].frames(stream_id(key), "cam", 2**53 - 1)[:1]
    with raw_server(answer) as (port, sizes), Sender(f"http://127.0.0.1:{port}/behind", "cam", token=token) as sender:
        for _ in range(2):
            if version == 2:
                sender.send_frames(frames, key, counted.append)
            else:
                sender.send_version_1(b"h" * 13, [b"f" * 60], 2**53 - 1, counted.append)
        assert max(counted) <= sender.request_overhead + 200
    assert sizes == counted

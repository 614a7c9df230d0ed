"""Bounds in front of the parser, over real sockets: what is too much is refused, and costs no memory."""

import asyncio
import gc
import logging
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, suppress

import pytest
import uvloop
from fastapi import FastAPI
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from edge_stscq.server.front import connections as connections_module
from edge_stscq.server.front.protocol import MAX_HEAD_BYTES, MAX_HEADERS, MAX_PIPELINED, PIECE_BYTES

pytestmark = pytest.mark.anyio
Listen = Callable[..., AbstractAsyncContextManager[tuple[str, FastAPI]]]
GET = b"GET /health HTTP/1.1\r\nHost: a\r\n"
CHUNKED = (
    b"POST /v1/frames HTTP/1.1\r\nHost: a\r\nEdge-Device: cam\r\nEdge-Sequence: 0\r\nTransfer-Encoding: chunked\r\n\r\n"
)


async def told(address: str, *pieces: bytes, whole: bool = True) -> bytes:
    """Bytes that the server answers until it hangs up; pieces that it takes no more are left out."""
    host, port = address.split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        async with asyncio.timeout(30):
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
            if not whole:
                return await reader.readuntil(b"\r\n\r\n")
            return await reader.read()
    except ConnectionError:
        return b""
    finally:
        writer.transport.abort()


async def test_protocol_headers_without_end(listen: Listen) -> None:
    async with listen() as (address, _):
        for bomb in (
            [GET, *[b"X-A: b\r\n" * 8] * 4000], [GET + b"X-A: ", *[b"b" * 4096] * 500],
            [b"GET /", *[b"a" * 4096] * 500], [b"\r\n" * 2048] * 500,
            [CHUNKED, b"0\r\n", *[b"X-A: b\r\n" * 512] * 500],
        ):  # fmt: skip
            answer = await told(address, *bomb)
            assert not answer or answer.startswith((b"HTTP/1.1 431 ", b"HTTP/1.1 400 ", b"HTTP/1.1 405 "))
        assert b" 200 OK" in await told(address, GET + b"\r\n", whole=False)


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (GET + b"X-A: b\r\n" * (MAX_HEADERS - 1), b"200"), (GET + b"X-A: b\r\n" * MAX_HEADERS, b"431"),
        (GET + b"X: " + b"b" * (MAX_HEAD_BYTES - 100) + b"\r\n", b"200"),
        (GET + b"X: " + b"b" * (MAX_HEAD_BYTES + PIECE_BYTES) + b"\r\n", b"431"),
        (b"nonsense\r\n", b"400"), (b"\x16\x03\x01\x02\x00\x01\x00", b"400"),
    ],
)  # fmt: skip
async def test_protocol_bounds_of_a_head(listen: Listen, head: bytes, status: bytes) -> None:
    async with listen() as (address, _):
        answer = await told(address, head + b"\r\n", whole=False)
        assert answer.split(b" ", 2)[1] == status


async def test_protocol_chunked_body_within_bounds(listen: Listen) -> None:
    async with listen() as (address, _):
        answer = await told(address, CHUNKED, *[b"1000\r\n" + b"x" * 4096 + b"\r\n"] * 200, b"0\r\n\r\n", whole=False)
        assert answer.startswith(b"HTTP/1.1 400 ")
        body = b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 200000\r\n\r\n"
        assert (await told(address, body, b"x" * 200_000, whole=False)).startswith(b"HTTP/1.1 200 ")


async def test_protocol_pipelined_requests(listen: Listen) -> None:
    async with listen() as (address, _):
        few = await told(address, (GET + b"\r\n") * 4 + GET + b"Connection: close\r\n\r\n")
        assert few.count(b"HTTP/1.1 200 OK") == 5
        assert len(await told(address, (GET + b"\r\n") * 20_000)) < 20_000 * 20
        gc.collect()
        assert sum(type(each) is RequestResponseCycle for each in gc.get_objects()) <= 2 * MAX_PIPELINED


async def test_protocol_silent_and_slow_connections_are_cut(listen: Listen, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections_module, "HEAD_SECONDS", 0.2)
    async with listen() as (address, _):
        host, port = address.split(":")
        for beginning in (b"", GET, GET + b"\r\n", b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nx"):
            reader, writer = await asyncio.open_connection(host, int(port))
            writer.write(beginning)
            async with asyncio.timeout(30):
                with suppress(ConnectionError):
                    while await reader.read(4096):
                        pass
            writer.transport.abort()


async def test_protocol_throng_of_one_address_lets_another_request_in(
    listen: Listen, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with listen(most_of_address=8) as (address, _):
        host, port = address.split(":")
        silent = [await asyncio.open_connection(host, int(port)) for _ in range(30)]
        assert b" 200 OK" in await told(address, GET + b"\r\n", whole=False)
        async with asyncio.timeout(30):
            for reader, _ in silent[:20]:
                with suppress(ConnectionError):
                    assert await reader.read() == b""
        for _, writer in silent:
            writer.transport.abort()


async def test_protocol_refused_websocket_writes_no_log(listen: Listen, capsys: pytest.CaptureFixture[str]) -> None:
    async with listen(host="127.0.0.1") as (address, _):
        for _ in range(3):
            with pytest.raises(InvalidStatus, match="401"):
                await connect(f"ws://{address}/v1/live", proxy=None)
        await told(address, b"nonsense\r\n\r\n")
        logging.getLogger("uvicorn.error").warning("a line that shows")
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("a line that shows")


def test_protocol_answer_to_a_connection_that_was_cut_writes_no_log(
    listen: Listen, capsys: pytest.CaptureFixture[str]
) -> None:
    """uvicorn tells the last of several requests alone that its client is gone; uvloop raises at what others write."""
    cut: list[int] = []

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        cycles = [found for found in gc.get_objects() if type(found) is RequestResponseCycle]
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"4")]})
        cycles[0].transport.abort()
        async with asyncio.timeout(30):
            while not any(cycle.disconnected for cycle in cycles):  # uvicorn tells the last one alone
                await asyncio.sleep(0.01)
        await send({"type": "http.response.body", "body": b"more"})
        cut.append(len(cycles))

    async def ask() -> None:
        gc.collect()
        app = FastAPI()
        app.mount("/", answer)
        async with listen(app=app) as (address, _):
            await told(address, (GET + b"\r\n") * 2)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(ask())
    assert cut == [2]
    assert "Traceback" not in capsys.readouterr().err

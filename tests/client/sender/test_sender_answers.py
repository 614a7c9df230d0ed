"""Answers that are not the server's decide nothing: those of proxies, of captive portals, and of whoever is hostile."""

import json
import socket
import threading
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import httpx2
import pytest

from edge_stscq.client.sender import MAX_ANSWER, Sender, UnreachableError
from edge_stscq.errors import EdgeError
from edge_stscq.stream import FrameCodec
from edge_stscq.stream.envelope import WireFrame, stream_id
from tests.client.face_server import FaceServer
from tests.client.filled import captured

KEY = bytes(16)
HTML = "<html><body>Log in to the hotel's network</body></html>"
GOOD = {"device": "cam", "count": 1, "stored": 1, "extended": 0, "duplicate": 0, "refused": []}


@pytest.fixture(scope="session")
def frame(codec: FrameCodec) -> WireFrame:
    return captured(codec, 0).frames(stream_id(KEY), "cam", 7)[0]


def both(sender: Sender, frame: WireFrame) -> list[Callable[[], object]]:
    """A request of each version."""
    return [
        lambda: sender.send_frames([frame], KEY),
        lambda: sender.send_version_1(b"h" * 13, [b"f" * 9], 7),
    ]


FOREIGN = {
    "200 HTML": httpx2.Response(200, text=HTML),
    "200 empty": httpx2.Response(200),
    "200 JSON of another service": httpx2.Response(200, json={"count": 1}),
    "200 a list": httpx2.Response(200, json=[GOOD]),
    "200 an error": httpx2.Response(200, json={"error": "log in"}),
    "200 negative": httpx2.Response(200, json=GOOD | {"stored": -1}),
    "201": httpx2.Response(201, json=GOOD),
    "204": httpx2.Response(204),
    "301": httpx2.Response(301, headers={"Location": "https://edge.test/"}),
    "302": httpx2.Response(302, headers={"Location": "http://portal.test/login"}, text=HTML),
    "302 to nowhere": httpx2.Response(302, headers={"Location": "http://[::1"}),
    "307 JSON": httpx2.Response(307, json={"error": "elsewhere"}),
    "400 HTML": httpx2.Response(400, text=HTML),
    "400 empty": httpx2.Response(400),
    "400 an error that is no line": httpx2.Response(400, json={"error": {"code": 7}}),
    "400 deep": httpx2.Response(400, text="[" * 100_000),
    "401 HTML": httpx2.Response(401, text=HTML),
    "403 HTML": httpx2.Response(403, text=HTML),
    "404 HTML": httpx2.Response(404, text=HTML),
    "405 HTML": httpx2.Response(405, text=HTML),
    "413 HTML": httpx2.Response(413, text=HTML),
    "407": httpx2.Response(407, text=HTML),
    "408": httpx2.Response(408, json={"error": "slow"}),
    "425": httpx2.Response(425, json={"error": "early"}),
    "429": httpx2.Response(429, json={"error": "busy"}),
} | {
    f"{status} {kind}": httpx2.Response(status, **content)
    for status in (500, 502, 503, 504, 507, 511, 520, 521, 522, 530, 599)
    for kind, content in (("HTML", {"text": HTML}), ("JSON", {"json": {"error": "as told"}}))
}


@pytest.mark.parametrize("answer", FOREIGN.values(), ids=FOREIGN)
def test_what_is_not_the_servers_word_passes(server: FaceServer, frame: WireFrame, answer: httpx2.Response) -> None:
    for number in range(2):
        server.script = [answer] * 2
        pauses: list[float] = []
        with server.sender(pauses, attempts=2) as sender:
            with pytest.raises(UnreachableError, match=rf"gave up after 2 tries: .* ({answer.status_code}|be reached)"):
                both(sender, frame)[number]()
            assert len(pauses) == 1
    with server.sender() as sender:
        server.script = [answer]
        assert sender.send_frames([frame], KEY).tries == 2
    assert server.store.page(0, 9)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (GOOD | {"count": 2}, "acknowledged 2 frames and accounted for 1 of 1; check --url"),
        (GOOD | {"count": 0, "stored": 0}, "acknowledged 0 frames and accounted for 0 of 1"),
        (GOOD | {"stored": 0}, "accounted for 0 of 1"),
        (GOOD | {"extended": 1}, "accounted for 2 of 1"),
        (GOOD | {"stored": 0, "refused": [("", 7)]}, "refused frames that it was not sent"),
        (GOOD | {"stored": 0, "refused": [(stream_id(KEY).hex(), 8)]}, "refused frames that it was not sent"),
    ],
)
def test_an_acknowledgement_that_is_not_about_these_frames_stops_the_sender(
    server: FaceServer, frame: WireFrame, answer: dict[str, object], words: str
) -> None:
    refused = answer["refused"]
    assert isinstance(refused, list)
    lines = [{"stream": stream, "number": number, "code": "c", "reason": "r"} for stream, number in refused]
    server.script = [httpx2.Response(200, json=answer | {"refused": lines})]
    with server.sender() as sender, pytest.raises(EdgeError, match=words):
        sender.send_frames([frame], KEY)


def test_a_field_more_does_not_matter(server: FaceServer, frame: WireFrame) -> None:
    """A newer server may say more, also of codes that are not known here."""
    refused = {"stream": stream_id(KEY).hex(), "number": 7, "code": "new", "reason": "r", "since": 3}
    server.script = [httpx2.Response(200, json=GOOD | {"stored": 0, "refused": [refused], "node": "a"})]
    with server.sender() as sender:
        (one,) = sender.send_frames([frame], KEY).answer.refused
    assert (one.number, one.code) == (7, "new")


@pytest.mark.parametrize("error", ["\ud800", "a\x1b[2Jb\x07", "one\r\ntwo\x00", "x" * 10_000])
def test_a_servers_words_are_one_line_for_a_terminal(server: FaceServer, frame: WireFrame, error: str) -> None:
    for status in (400, 403, 503):
        server.script = [httpx2.Response(status, text=json.dumps({"error": error}))]
        with server.sender(attempts=1) as sender, pytest.raises(EdgeError) as raised:
            sender.send_frames([frame], KEY)
        assert str(raised.value).isprintable()
        assert len(str(raised.value)) < 700


@contextmanager
def raw_server(answer: Callable[[socket.socket], None]) -> Iterator[int]:
    """A port where every request is answered by `answer`, as long as it likes."""

    def serve() -> None:
        while True:
            try:
                wire, _ = listener.accept()
            except OSError:
                return
            with wire, suppress(OSError):
                wire.recv(1 << 16)
                answer(wire)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
    thread.join(30)
    assert not thread.is_alive()


def assert_passing(answer: Callable[[socket.socket], None], frame: WireFrame, words: str) -> None:
    with (
        raw_server(answer) as port,
        Sender(f"http://127.0.0.1:{port}", "cam", attempts=1) as sender,
        pytest.raises(UnreachableError, match=words),
    ):
        sender.send_frames([frame], KEY)


def test_an_answer_without_end_is_not_read_to_it(frame: WireFrame) -> None:
    sent = 0

    def endless(wire: socket.socket) -> None:
        nonlocal sent
        wire.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n")
        while True:
            sent += wire.send(bytes(1 << 16))

    assert_passing(endless, frame, "200 OK, but not as a server of faces")
    assert MAX_ANSWER <= sent < 8 * MAX_ANSWER


def test_a_compressed_answer_is_not_unpacked(frame: WireFrame) -> None:
    """This sender asks for none, and a few bytes may hold as much as no device has room for."""

    def bomb(wire: socket.socket) -> None:
        packed = zlib.compress(bytes(1 << 24))
        head = f"HTTP/1.1 200 OK\r\nContent-Encoding: deflate\r\nContent-Length: {len(packed)}\r\n\r\n"
        wire.sendall(head.encode() + packed)

    assert_passing(bomb, frame, "200 OK, but not as a server of faces")


@pytest.mark.parametrize("answer", [b"", b"220 mail.test ESMTP\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{"])
def test_what_is_no_answer_passes(frame: WireFrame, answer: bytes) -> None:
    assert_passing(lambda wire: wire.sendall(answer), frame, "cannot be reached")


def test_cookies_of_whoever_answers_are_not_sent(server: FaceServer, frame: WireFrame) -> None:
    server.script = [httpx2.Response(302, headers={"Set-Cookie": f"session={'x' * 3000}; Path=/", "Location": "/"})]
    with server.sender() as sender:
        for _ in range(2):
            sender.send_frames([frame], KEY)
    assert [arrival.headers.get("Cookie") for arrival in server.arrivals] == [None] * 3

"""The sender keeps trying what may pass, stops at what will not, and counts what was acknowledged."""

from collections.abc import Callable

import httpx2
import pytest

from edge_stscq.client.sender import MAX_PAUSE, Sender, SendReport
from edge_stscq.errors import EdgeError, FrameError
from edge_stscq.stream.frame import split_stream

TOKEN = "0123456789abcdef"


class Server:
    """Acknowledges batches; answers from `script` first, each an exception, a status or a response."""

    def __init__(self, *script: Exception | int | httpx2.Response) -> None:
        self.script = list(script)
        self.requests: list[httpx2.Request] = []
        self.known: set[int] = set()

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        self.requests.append(request)
        if self.script:
            answer = self.script.pop(0)
            if isinstance(answer, Exception):
                raise answer
            return httpx2.Response(answer, json={"error": "as told"}) if isinstance(answer, int) else answer
        first = int(request.headers["Edge-Sequence"])
        numbers = set(range(first, first + len(split_stream(request.content)[1])))
        new = len(numbers - self.known)
        self.known |= numbers
        counts = {"stored": new, "extended": 0, "duplicate": len(numbers) - new}
        return httpx2.Response(200, json={"device": "cam", "first": first, "count": len(numbers), **counts})


def sender(server: Callable[[httpx2.Request], httpx2.Response], pauses: list[float], **changes: object) -> Sender:
    settings = {"batch": 2, "transport": httpx2.MockTransport(server), "sleep": pauses.append} | changes
    return Sender("http://edge.test/", "cam", **settings)


def test_a_stream_goes_in_numbered_batches(stream: bytes) -> None:
    server, pauses, seen = Server(), [], []
    with sender(server, pauses, token=TOKEN) as edge:
        report = edge.send_stream(stream, 10, seen.append)
    header, frames = split_stream(stream)
    assert [request.headers["Edge-Sequence"] for request in server.requests] == ["10", "12", "14"]
    assert [request.content for request in server.requests] == [
        header + b"".join(frames[first : first + 2]) for first in (0, 2, 4)
    ]
    assert {str(request.url) for request in server.requests} == {"http://edge.test/v1/frames"}
    assert {request.headers["Edge-Device"] for request in server.requests} == {"cam"}
    assert {request.headers["Authorization"] for request in server.requests} == {f"Bearer {TOKEN}"}
    assert report == SendReport(frames=5, stored=5, bytes=len(stream) + 2 * len(header), requests=3)
    assert [step.frames for step in seen] == [2, 4, 5]
    assert pauses == []


def test_what_may_pass_is_tried_again_with_growing_pauses(stream: bytes) -> None:
    server, pauses = Server(httpx2.ConnectError("refused"), 503, httpx2.ReadTimeout("slow"), 500), []
    with sender(server, pauses, batch=9, pause=1.0) as edge:
        report = edge.send_stream(stream)
    assert (report.frames, report.requests, report.retries) == (5, 5, 4)
    assert len({request.content for request in server.requests}) == 1
    for pause, grown in zip(pauses, (1, 2, 4, 8), strict=True):
        assert grown / 2 <= pause <= grown * 1.5


def test_lost_acknowledgement_makes_no_second_face(stream: bytes) -> None:
    """A lost acknowledgement makes duplicates and no second face."""
    server = Server()
    lost = iter([True])

    def lossy(request: httpx2.Request) -> httpx2.Response:
        answer = server(request)
        if next(lost, False):
            raise httpx2.ReadError("connection reset")
        return answer

    with sender(lossy, []) as edge:
        report = edge.send_stream(stream)
    assert (report.stored, report.duplicate, report.retries) == (3, 2, 1)
    assert server.known == {0, 1, 2, 3, 4}


@pytest.mark.parametrize(("asked", "low", "high"), [("7", 7, 7), ("86400", MAX_PAUSE, MAX_PAUSE), ("soon", 0, 1)])
def test_retry_after_is_a_lower_bound_within_reason(stream: bytes, asked: str, low: float, high: float) -> None:
    server, pauses = Server(httpx2.Response(503, headers={"Retry-After": asked})), []
    with sender(server, pauses, pause=0.1) as edge:
        edge.send_stream(stream)
    assert low <= pauses[0] <= high


def test_trying_ends_and_says_how_far_it_came(stream: bytes) -> None:
    server, pauses = Server(), []

    def dies_after_one(request: httpx2.Request) -> httpx2.Response:
        if server.requests:
            raise httpx2.ConnectError("Connection refused")
        return server(request)

    with (
        sender(dies_after_one, pauses, attempts=3) as edge,
        pytest.raises(EdgeError, match=r"gave up after 3 tries: .*refused.*\(2 of 5 frames were acknowledged\)"),
    ):
        edge.send_stream(stream)
    assert len(pauses) == 2


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 413, 422, 307])
def test_a_refusal_is_final_and_quoted(stream: bytes, status: int) -> None:
    server, pauses = Server(status), []
    with sender(server, pauses) as edge, pytest.raises(EdgeError, match=rf"refused .* {status} as told.* \(0 of 5"):
        edge.send_stream(stream)
    assert (len(server.requests), pauses) == (1, [])


@pytest.mark.parametrize(
    "answer",
    [
        httpx2.Response(200, text="<html>hello</html>"),
        httpx2.Response(200, json={"count": 5}),
        httpx2.Response(
            200, json={"device": "cam", "first": 0, "count": 1, "stored": 1, "extended": 0, "duplicate": 0}
        ),
    ],
)
def test_an_answer_that_acknowledges_nothing_is_no_success(stream: bytes, answer: httpx2.Response) -> None:
    with sender(Server(answer), []) as edge, pytest.raises(EdgeError, match="check --url"):
        edge.send_stream(stream)


def test_a_damaged_stream_is_not_sent(stream: bytes) -> None:
    server = Server()
    with sender(server, []) as edge, pytest.raises(FrameError, match="frame 4"):
        edge.send_stream(stream[:-1] + bytes([stream[-1] ^ 1]))
    assert server.requests == []


@pytest.mark.parametrize("url", ["", "edge.test", "ftp://edge.test", "http://", "http://edge:port", "/v1"])
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(EdgeError, match="not a server address"):
        Sender(url, "cam")


def test_names_that_no_header_can_carry_are_refused() -> None:
    for device, token in (("câm", None), ("cam", "tökén"), ("c\nm", None), ("cam", "a\r\nX: 1"), ("", None)):
        with pytest.raises(EdgeError):
            Sender("http://edge.test", device, token=token)

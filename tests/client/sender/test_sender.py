"""The sender keeps trying what may pass, stops at what will not, and counts what was acknowledged."""

from dataclasses import replace

import httpx2
import pytest

from edge_stscq.client.sender import MAX_PAUSE, RequestRefusedError, Sender, SendReport
from edge_stscq.errors import EdgeError, FrameError
from edge_stscq.protocol import FRAMES_PATH, STREAMS_PATH
from edge_stscq.stream import CodedFace, FrameCodec
from edge_stscq.stream.envelope import Source, WireFrame, device_stream_id, key_of_device, stream_id
from edge_stscq.stream.frame import split_stream
from edge_stscq.stream.wire import read_frames, write_sections, write_stream
from tests.client.face_server import FaceServer
from tests.client.filled import captured, coded
from tests.support.fakes import stream_acknowledgement

TOKEN = "0123456789abcdef"
KEY, OTHER_KEY = bytes(range(16)), bytes(range(16, 32))


@pytest.fixture(scope="session")
def frames(codec: FrameCodec) -> list[WireFrame]:
    """Five faces with all their layers."""
    return [captured(codec, n).frames(stream_id(KEY), "door", n)[1] for n in range(5)]


@pytest.fixture(scope="session")
def file(frames: list[WireFrame]) -> bytes:
    return write_stream(frames, KEY)


def test_a_file_goes_in_batches(server: FaceServer, file: bytes, frames: list[WireFrame]) -> None:
    """As this device's, whoever's it was."""
    pauses: list[float] = []
    seen: list[SendReport] = []
    with server.sender(pauses, token=TOKEN, batch=2) as sender:
        report = sender.send_stream(file, on_progress=seen.append)
    assert [arrival.path for arrival in server.arrivals] == [STREAMS_PATH] * 3
    sent = [frame for arrival in server.arrivals for frame in arrival.frames]
    stream = stream_id(key_of_device(KEY, "cam"))
    assert sent == [frame.of_device("cam", stream) for frame in frames]
    assert {arrival.headers["Authorization"] for arrival in server.arrivals} == {f"Bearer {TOKEN}"}
    assert report == SendReport(
        frames=5, stored=5, bytes=sum(len(arrival.body) for arrival in server.arrivals), requests=3
    )
    assert [step.frames for step in seen] == [2, 4, 5]
    assert pauses == []


def test_a_file_of_several_streams_goes_stream_by_stream(
    server: FaceServer, file: bytes, frames: list[WireFrame]
) -> None:
    source = replace(frames[0].source, stream_id=stream_id(OTHER_KEY))
    others = [replace(frame, source=source, checksum=-1) for frame in frames[:3]]
    mixed = file + write_sections(others, OTHER_KEY) + file[5:]
    with server.sender(batch=9) as sender:
        report = sender.send_stream(mixed)
    assert [len(arrival.frames) for arrival in server.arrivals] == [5, 3, 5]
    assert (report.stored, report.duplicate) == (8, 5)


def test_a_stream_of_version_1_goes_in_numbered_batches(server: FaceServer, codec: FrameCodec) -> None:
    stream = codec.encode_stream(_version_1(codec))
    with server.sender(batch=2) as sender:
        report = sender.send_stream(stream, 10)
    header, parts = split_stream(stream)
    assert [arrival.path for arrival in server.arrivals] == [FRAMES_PATH] * 3
    assert [arrival.headers["Edge-Sequence"] for arrival in server.arrivals] == ["10", "12", "14"]
    assert [arrival.body for arrival in server.arrivals] == [header + b"".join(parts[n : n + 2]) for n in (0, 2, 4)]
    assert {arrival.headers["Edge-Device"] for arrival in server.arrivals} == {"cam"}
    assert report == SendReport(frames=5, stored=5, bytes=len(stream) + 2 * len(header), requests=3)
    rows = server.store.page(0, 9)
    assert [row.id for row in rows] == [f"cam-{n}" for n in range(10, 15)]
    assert {row.stream for row in rows} == {device_stream_id("cam")}


def _version_1(codec: FrameCodec) -> list[CodedFace]:
    return [coded(codec, n)[1] for n in range(5)]


def test_what_a_server_refuses_of_a_file_is_reported_and_the_rest_goes(
    server: FaceServer, frames: list[WireFrame]
) -> None:
    unknown = replace(frames[0].source, model_id=b"another!")
    mixed = [replace(frame, source=unknown, checksum=-1) if frame.number in (1, 4) else frame for frame in frames]
    with server.sender(batch=3) as sender:
        report = sender.send_stream(write_stream(mixed, KEY))
    assert (report.frames, report.stored, report.requests) == (3, 3, 2)
    assert [(one.stream, one.number, one.code) for one in report.refused] == [
        (stream_id(key_of_device(KEY, "cam")).hex(), n, "unknown-model") for n in (1, 4)
    ]


def test_file_refused_as_a_whole_goes_in_halves(server: FaceServer, file: bytes, frames: list[WireFrame]) -> None:
    """Down to the frame that the server cannot take, which is reported; the others arrive."""

    def strict(request: httpx2.Request) -> httpx2.Response:
        if any(frame.number == 3 for _, frame in read_frames(request.content)):
            return httpx2.Response(400, json={"error": "not that one"})
        return server(request)

    with server.sender(batch=9, transport=httpx2.MockTransport(strict)) as sender:
        report = sender.send_stream(file)
    assert (report.frames, report.stored) == (4, 4)
    assert [(one.number, one.code, one.reason) for one in report.refused] == [
        (3, "refused-request", "400 not that one")
    ]


def test_what_may_pass_is_tried_again_with_growing_pauses(server: FaceServer, file: bytes) -> None:
    server.script = [httpx2.ConnectError("refused"), 503, httpx2.ReadTimeout("slow"), 500]
    pauses: list[float] = []
    with server.sender(pauses, batch=9, pause=1.0) as sender:
        report = sender.send_stream(file)
    assert (report.frames, report.requests, report.retries) == (5, 5, 4)
    assert len({arrival.body for arrival in server.arrivals}) == 1
    for pause, grown in zip(pauses, (1, 2, 4, 8), strict=True):
        assert grown / 2 <= pause <= grown * 1.5


@pytest.mark.parametrize(("asked", "low", "high"), [("7", 7, 7), ("86400", MAX_PAUSE, MAX_PAUSE), ("soon", 0, 1)])
def test_retry_after_is_a_lower_bound_within_reason(
    server: FaceServer, file: bytes, asked: str, low: float, high: float
) -> None:
    server.script = [httpx2.Response(503, headers={"Retry-After": asked})]
    pauses: list[float] = []
    with server.sender(pauses, pause=0.1) as sender:
        sender.send_stream(file)
    assert low <= pauses[0] <= high


def test_trying_ends_and_says_how_far_it_came(server: FaceServer, file: bytes) -> None:
    server.script = [200, *[httpx2.ConnectError("Connection refused")] * 3]
    pauses: list[float] = []
    with (
        server.sender(pauses, batch=2, attempts=3) as sender,
        pytest.raises(EdgeError, match=r"gave up after 3 tries: .*refused.*\(2 of 5 frames were acknowledged\)"),
    ):
        sender.send_stream(file)
    assert len(pauses) == 2


@pytest.mark.parametrize("status", [401, 403, 405, 411, 418, 451])
def test_a_refusal_is_final_and_quoted(server: FaceServer, file: bytes, status: int) -> None:
    server.script = [status]
    pauses: list[float] = []
    with server.sender(pauses) as sender, pytest.raises(EdgeError, match=rf"refused .* {status} as told.* \(0 of 5"):
        sender.send_stream(file)
    assert (len(server.arrivals), pauses) == (1, [])


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 409, 411, 413, 418, 422, 451])
def test_a_refusal_of_what_is_sent_is_told_from_one_of_who_sends(
    server: FaceServer, frames: list[WireFrame], status: int
) -> None:
    server.script = [status]
    mine = [frame.of_device("cam", stream_id(KEY)) for frame in frames]
    with server.sender() as sender, pytest.raises(EdgeError) as raised:
        sender.send_frames(mine, KEY)
    found = raised.value
    assert isinstance(found, RequestRefusedError) == (status in (400, 409, 413, 422))
    if isinstance(found, RequestRefusedError):
        assert (found.reason, found.too_large) == (f"{status} as told", status == 413)


def test_a_server_of_before_version_2_is_named(server: FaceServer, file: bytes) -> None:
    server.old = True
    with server.sender() as sender, pytest.raises(EdgeError, match="before wire version 2; update the server"):
        sender.send_stream(file)


def test_a_damaged_file_is_not_sent(server: FaceServer, file: bytes, stream: bytes) -> None:
    for data in (file, stream):
        with server.sender() as sender, pytest.raises(FrameError, match="frame 4"):
            sender.send_stream(data[:-1] + bytes([data[-1] ^ 1]))
    assert server.arrivals == []


def test_a_file_without_frames_is_sent_in_no_request(server: FaceServer, codec: FrameCodec) -> None:
    with server.sender() as sender:
        assert sender.send_stream(write_stream([], KEY)) == sender.send_stream(codec.header()) == SendReport()
    assert server.arrivals == []


@pytest.mark.parametrize("url", ["", "edge.test", "ftp://edge.test", "http://", "http://edge:port", "/v1"])
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(EdgeError, match="not a server address"):
        Sender(url, "cam")


@pytest.mark.parametrize("host", ["a..b", "a" * 64])
def test_a_host_that_cannot_be_looked_up_is_one_line(file: bytes, host: str) -> None:
    with Sender(f"http://{host}", "cam", attempts=1) as sender, pytest.raises(EdgeError, match="cannot be reached"):
        sender.send_stream(file)


def test_names_that_no_header_can_carry_are_refused() -> None:
    for device, token in (("câm", None), ("cam", "tökén"), ("c\nm", None), ("cam", "a\r\nX: 1"), ("", None)):
        with pytest.raises(EdgeError):
            Sender("http://edge.test", device, token=token)


def test_frames_of_another_stream_than_the_key_are_not_sent(server: FaceServer, frames: list[WireFrame]) -> None:
    with server.sender() as sender, pytest.raises(EdgeError, match="another stream than the key"):
        sender.send_frames(frames, OTHER_KEY)
    assert server.arrivals == []


def test_a_request_can_be_read_by_itself(server: FaceServer, file: bytes) -> None:
    with server.sender(batch=1) as sender:
        sender.send_stream(file)
    numbers = [[frame.number for _, frame in read_frames(arrival.body)] for arrival in server.arrivals]
    assert numbers == [[n] for n in range(5)]


@pytest.mark.parametrize("url", ["http://anna:secret@server:8377", "https://secret@server", "ftp://anna:secret@server"])
def test_sender_address_with_a_password_is_refused_and_not_shown(url: str) -> None:
    with pytest.raises(EdgeError) as refused:
        Sender(url, "door-1", token="t")
    assert "secret" not in str(refused.value)


def test_sender_finds_the_token_of_a_server_that_starts_later(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server of this machine may be down, or start again, while a drain goes on."""
    told = iter([None, None, "old", "new", "new"])
    monkeypatch.setattr("edge_stscq.client.sender.local_token", lambda url: next(told, "new"))
    shown: list[str | None] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        shown.append(request.headers.get("Authorization"))
        if len(shown) == 1:
            raise httpx2.ConnectError("refused")
        if shown[-1] != "Bearer new":
            return httpx2.Response(401, json={"error": "a valid bearer token is needed"})
        return httpx2.Response(200, content=stream_acknowledgement(request.content))

    frames = [WireFrame(Source(stream_id(bytes(16)), "cam", bytes(8)), 0, 1, b"a")]
    with Sender("http://127.0.0.1:9", "cam", transport=httpx2.MockTransport(answer), sleep=lambda _: None) as sender:
        assert sender.send_frames(frames, bytes(16)).answer.stored == 1
    assert shown == [None, "Bearer old", "Bearer new"]

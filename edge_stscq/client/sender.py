"""Frames to a server, in batches that may be retried.

A face is named by its stream and a number, and the server acknowledges after its commit, so sending a batch
again can do no harm: what is known already is answered as a duplicate. Whatever may pass - no connection, a timeout, a
busy or restarting server, an answer that is not a server's own but a proxy's or a captive portal's - is therefore tried
again, with growing random pauses that keep a fleet of devices from returning in step; the server's `Retry-After` is a
lower bound. What will not pass is raised at once.
"""

import json
import random
import re
import ssl
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlsplit

import httpx2
from pydantic import ValidationError

from edge_stscq import __version__
from edge_stscq._local_servers import local_token
from edge_stscq.errors import EdgeError
from edge_stscq.protocol import (
    DEVICE_HEADER,
    FRAMES_PATH,
    MAX_SEQUENCE,
    PASSING,
    REFUSED_REQUEST,
    SEQUENCE_HEADER,
    STREAMS_PATH,
    Acknowledgement,
    RefusedFrame,
    StreamAcknowledgement,
    check_device,
)
from edge_stscq.stream.envelope import WireFrame, key_of_device, stream_id
from edge_stscq.stream.frame import split_stream
from edge_stscq.stream.wire import check_version, read_frames, write_stream

if TYPE_CHECKING:
    from edge_stscq.client.drain import DrainReport
    from edge_stscq.client.spool import Spool

REFUSING = frozenset({400, 409, 413, 422})
"""Answers to what a request holds, not to who sends it."""
MAX_PAUSE = 30.0
"""Longest pause between two tries, in seconds, whatever the server asks for."""
MAX_ANSWER = 1 << 22
"""Bytes of an answer that are read: over a thousand refused frames, with their reasons."""


@dataclass(frozen=True)
class SendReport:
    """Counters of one `send_stream`: frames acknowledged, what became of them, and what it took.

    `bytes` counts request bodies, each acknowledged one once. What is `refused` is not among the frames acknowledged.
    """

    frames: int = 0
    stored: int = 0
    extended: int = 0
    duplicate: int = 0
    bytes: int = 0
    requests: int = 0
    retries: int = 0
    refused: tuple[RefusedFrame, ...] = ()


_Answer = TypeVar("_Answer", Acknowledgement, StreamAcknowledgement)
_NO_HEADERS: Mapping[str, str] = MappingProxyType({})


class UnreachableError(EdgeError):
    """No server could be reached, or none that was able to answer; the same may succeed later."""


class RequestRefusedError(EdgeError):
    """The server refused a request as it is: damaged, too large, or holding a frame that it cannot take.

    Attributes:
        reason: status and the server's line.
        too_large: the server takes fewer frames or bytes at once.
    """

    def __init__(self, message: str, reason: str, too_large: bool) -> None:
        super().__init__(message)
        self.reason, self.too_large = reason, too_large


class _PassingError(Exception):
    """A try failed in a way that may pass; `after` is the server's Retry-After in seconds."""

    def __init__(self, message: str, after: float = 0.0) -> None:
        super().__init__(message)
        self.after = after


class Sender:
    """A connection to one server on behalf of one device; use it as a context manager.

    Args:
        url: the server's address, e.g. `http://127.0.0.1:8377`.
        device: name of this device, 1 to 64 of `A-Z a-z 0-9 . _ -`.
        token: bearer token; None is that of a server of this user on this machine, if `url` is such a one.
        batch: most frames in one request.
        attempts: tries for each request before giving up.
        timeout: seconds without progress before a try has failed.
        pause: seconds before the second try, give or take half; it doubles with each further one.
        tls: from `certificate.tls_context`; what this machine trusts if None.
        transport: how requests travel; the network if None.
        sleep: how to wait between two tries.

    Raises:
        EdgeError: `url` is not an http(s) address or holds a password, or `device` or `token` cannot stand in a header.

    Example:
        >>> with Sender("http://127.0.0.1:8377", "door-1") as sender:
        ...     sender.send_stream(Path("faces.stsq").read_bytes()).stored
        12
    """

    def __init__(
        self,
        url: str,
        device: str,
        *,
        token: str | None = None,
        batch: int = 64,
        attempts: int = 6,
        timeout: float = 30.0,
        pause: float = 0.5,
        tls: ssl.SSLContext | None = None,
        transport: httpx2.BaseTransport | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._url, self._batch, self._attempts = url.rstrip("/"), batch, attempts
        if not _is_address(self._url):
            shown = url if "@" not in url else "this"  # what is no address may still hold a password
            raise EdgeError(f"{shown!r} is not a server address; use e.g. http://127.0.0.1:8377")
        if "@" in urlsplit(self._url).netloc:
            raise EdgeError(
                "the server's address holds a user name or password, which every message would show; "
                "leave it out and give a token: --token-file FILE"
            )
        check_device(device)
        self.device = device
        headers = {"User-Agent": f"edge-stscq/{__version__}", DEVICE_HEADER: device, "Accept-Encoding": "identity"}
        self._finds_token = token is None
        if token is None:
            token = local_token(url)
        if token:
            if not re.fullmatch(r"[!-~]+", token):
                raise EdgeError("the token has spaces or non-ASCII characters; copy it from the server again")
            headers["Authorization"] = f"Bearer {token}"
        verify = True if tls is None else tls
        try:
            self._http = httpx2.Client(headers=headers, timeout=timeout, transport=transport, verify=verify)
        except (ValueError, ImportError, OSError, httpx2.InvalidURL) as error:
            raise EdgeError(
                f"no connection can be made ({error}); check HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and SSL_CERT_FILE"
            ) from None
        self.device = device
        self._pause, self._sleep = pause, sleep

    def __enter__(self) -> "Sender":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()

    def send_stream(
        self, data: bytes, start_sequence: int = 0, on_progress: Callable[[SendReport], None] = lambda report: None
    ) -> SendReport:
        """Send every frame of a stream. One of version 2 says whose they are; under another device's name it is another
        stream, the same one every time.

        Args:
            data: a file header and its frames.
            start_sequence: number of the first face of a stream of version 1, `<device>-<start_sequence>`.
            on_progress: called with the counters after each acknowledged batch.

        Raises:
            FrameError: the stream is damaged; nothing was sent.
            EdgeError: the server refused a batch or stayed out of reach; the message says how much was acknowledged.
        """
        if check_version(data) == 1:
            header, parts = split_stream(data)
            starts = range(0, len(parts), self._batch)
            sent = (self.send_version_1(header, parts[at : at + self._batch], start_sequence + at) for at in starts)
            return self._add_up(len(parts), on_progress, sent)
        runs = self._runs(data)
        sent = (one for key, run in runs for one in self._in_parts(run, key))
        return self._add_up(sum(len(run) for _, run in runs), on_progress, sent)

    def _in_parts(self, frames: Sequence[WireFrame], key: bytes) -> Iterator["Sent"]:
        """Send frames in one request, or in halves of one that is refused as a whole, down to a single frame."""
        try:
            yield self.send_frames(frames, key)
        except RequestRefusedError as error:
            if len(frames) == 1:
                stream, number = frames[0].source.stream_id.hex(), frames[0].number
                refused = RefusedFrame(stream=stream, number=number, code=REFUSED_REQUEST, reason=error.reason)
                counts = {"count": 1, "stored": 0, "extended": 0, "duplicate": 0}
                yield Sent(StreamAcknowledgement(device=self.device, **counts, refused=[refused]), 1, 0)
                return
            middle = len(frames) // 2
            yield from self._in_parts(frames[:middle], key)
            yield from self._in_parts(frames[middle:], key)

    def _runs(self, data: bytes) -> list[tuple[bytes, list[WireFrame]]]:
        """Batches of frames of one stream, with its key, as this device's."""
        runs: list[tuple[bytes, list[WireFrame]]] = []
        for section, frame in read_frames(data):
            key = section.key
            if frame.source.device != self.device:
                key = key_of_device(key, self.device)
                frame = frame.of_device(self.device, stream_id(key))
            if not runs or runs[-1][0] != key or len(runs[-1][1]) == self._batch:
                runs.append((key, []))
            runs[-1][1].append(frame)
        return runs

    def _add_up(self, frames: int, on_progress: Callable[[SendReport], None], requests: Iterator["Sent"]) -> SendReport:
        report = SendReport()
        while True:
            try:
                sent = next(requests)
            except StopIteration:
                return report
            except EdgeError as error:
                raise EdgeError(f"{error} ({report.frames} of {frames} frames were acknowledged)") from None
            answer = sent.answer
            report = SendReport(
                frames=report.frames + answer.count - len(answer.refused),
                stored=report.stored + answer.stored,
                extended=report.extended + answer.extended,
                duplicate=report.duplicate + answer.duplicate,
                bytes=report.bytes + sent.size,
                requests=report.requests + sent.tries,
                retries=report.retries + sent.tries - 1,
                refused=(*report.refused, *answer.refused),
            )
            on_progress(report)

    def send_frames(
        self, frames: Sequence[WireFrame], key: bytes, before_try: Callable[[int], None] = lambda size: None
    ) -> "Sent":
        """One request of version 2 until it is acknowledged.

        Args:
            frames: all of the stream with this key, and of this device.
            before_try: called with the bytes of the request, HTTP header and body, before each try.

        Raises:
            UnreachableError: no try was answered in a way that could be final.
            RequestRefusedError: the server refused the request as it is.
            EdgeError: the server refused this device, or speaks another version.
        """
        body = write_stream(frames, key)
        answer, tries = self._until_answered(StreamAcknowledgement, self._request(STREAMS_PATH, body), before_try)
        self._check(answer, len(frames), Counter((frame.source.stream_id.hex(), frame.number) for frame in frames))
        for one in answer.refused:
            one.code, one.reason = _one_line(one.code), _one_line(one.reason)
        return Sent(answer, tries, len(body))

    def send_version_1(
        self,
        header: bytes,
        frames: Sequence[bytes],
        sequence: int,
        before_try: Callable[[int], None] = lambda size: None,
    ) -> "Sent":
        """One request of version 1 until it is acknowledged; otherwise as `send_frames`.

        Args:
            header: begins every stream, 13 bytes.
            frames: of the faces `<device>-<sequence>`, `<device>-<sequence + 1>`, ...
        """
        body = header + b"".join(frames)
        request = self._request(FRAMES_PATH, body, {SEQUENCE_HEADER: str(sequence)})
        found, tries = self._until_answered(Acknowledgement, request, before_try)
        answer = StreamAcknowledgement(**found.model_dump(exclude={"first"}))
        self._check(answer, len(frames), Counter())
        return Sent(answer, tries, len(body))

    def _until_answered(
        self, kind: type[_Answer], request: httpx2.Request, before_try: Callable[[int], None]
    ) -> tuple[_Answer, int]:
        """The acknowledgement, and the tries it took."""
        for tries in range(1, self._attempts + 1):
            self._show_local_token(request)
            before_try(_head_bytes(request) + len(request.content))
            try:
                return self._try(kind, request), tries
            except _PassingError as error:
                if tries == self._attempts:
                    raise UnreachableError(
                        f"gave up after {tries} tries: {error}; run the same command again"
                    ) from None
                grown = self._pause * 2 ** (tries - 1) * random.uniform(0.5, 1.5)
                self._sleep(min(max(grown, error.after), MAX_PAUSE))
        raise AssertionError("at least one try is made")

    def _check(self, answer: StreamAcknowledgement, count: int, names: Counter[tuple[str, int]]) -> None:
        """Refuse an answer that is not about these frames: nobody may forget them."""
        refused = Counter((one.stream, one.number) for one in answer.refused)
        told = answer.stored + answer.extended + answer.duplicate + refused.total()
        if answer.count != count or told != count:
            raise EdgeError(
                f"{self._url} acknowledged {answer.count} frames and accounted for {told} of {count}; check --url"
            )
        if refused - names:
            raise EdgeError(f"{self._url} refused frames that it was not sent; check --url")

    def drain(self, spool: "Spool", budget: str | None = None, *, follow: bool = False) -> "DrainReport":
        """Send what waits in a spool of this device, and forget it there once the server has it.

        Args:
            budget: most bytes on the link, e.g. "2kB/min", "500B/s", "1MB/h"; no limit if None.
            follow: go on when the spool is empty or the server away, for ever.

        Returns:
            What was sent.

        Raises:
            EdgeError: the spool is another device's, `budget` is none, the server refused frames or, without `follow`,
                stayed out of reach. What was not acknowledged stays in the spool.
        """
        from edge_stscq.client.byte_budget import ByteLimiter, parse_budget
        from edge_stscq.client.drain import Drain

        if spool.device != self.device:
            raise EdgeError(f"the spool is of device {spool.device}, the sender of {self.device}; use one name")
        limiter = None if budget is None else ByteLimiter(parse_budget(budget))
        run = Drain(spool, self, limiter, batch=self._batch)
        run.run(follow)
        return run.report

    @property
    def request_overhead(self) -> int:
        """Bytes of a request beside its body, with the longest numbers it can hold; TLS and TCP come on top."""
        return _head_bytes(self._request(FRAMES_PATH, b" " * 10**5, {SEQUENCE_HEADER: str(MAX_SEQUENCE)}))

    def _request(self, path: str, body: bytes, headers: Mapping[str, str] = _NO_HEADERS) -> httpx2.Request:
        headers = {**headers, "Content-Type": "application/octet-stream"}
        return self._http.build_request("POST", self._url + path, content=body, headers=headers)

    def _show_local_token(self, request: httpx2.Request) -> bool:
        """Show the token of this machine's server, which may have started since; True if it is another than before.

        A token that was given is shown anyway.
        """
        found = local_token(self._url) if self._finds_token else None
        if found is None or request.headers.get("Authorization") == f"Bearer {found}":
            return False
        request.headers["Authorization"] = f"Bearer {found}"
        return True

    def _try(self, kind: type[_Answer], request: httpx2.Request) -> _Answer:
        try:
            status, phrase, after, content = self._exchange(request)
        except (httpx2.TransportError, UnicodeError) as error:
            raise _PassingError(f"{self._url} cannot be reached ({str(error) or type(error).__name__})") from error
        told = _error_of(content)
        reason = _one_line(f"{status} {told or phrase}")
        if status in PASSING or status >= 500:
            raise _PassingError(f"{self._url} answered {reason}", after)
        if status == 200:
            with suppress(ValidationError):
                return kind.model_validate_json(content)
        if status < 400 or told is None:
            raise _PassingError(f"{self._url} answered {reason}, but not as a server of faces; check --url", after)
        if status in REFUSING:
            raise RequestRefusedError(f"{self._url} refused the frames: {reason}", reason, status == 413)
        if status == 401 and self._show_local_token(request):
            raise _PassingError(f"{self._url} answered {reason}, and has another token now")
        if status == 401:
            hint = "give the device's token with --token-file FILE or EDGE_STSCQ_TOKEN (`edge-stscq token create`)"
            raise EdgeError(f"{self._url} refused the frames: {reason}; {hint}")
        if status == 404 and request.url.path.endswith(STREAMS_PATH):
            raise EdgeError(f"{self._url} is a server of before wire version 2; update the server (nothing was lost)")
        raise EdgeError(f"{self._url} refused the frames: {reason}")

    def _exchange(self, request: httpx2.Request) -> tuple[int, str, float, bytes]:
        """Status, its phrase, Retry-After and as much of the content as an answer of a server's own can have."""
        response = self._http.send(request, stream=True)
        content = bytearray()
        try:
            if "Content-Encoding" not in response.headers:
                for part in response.iter_bytes():
                    content += part
                    if len(content) > MAX_ANSWER:
                        break
        finally:
            response.close()
            self._http.cookies.clear()  # a proxy's would be in every later request
        return response.status_code, response.reason_phrase, _retry_after(response), bytes(content)


@dataclass(frozen=True)
class Sent:
    """An acknowledged request: the answer, the tries it took, and the bytes of its body."""

    answer: StreamAcknowledgement
    tries: int
    size: int


def _is_address(url: str) -> bool:
    try:
        parsed = httpx2.URL(url)
    except (httpx2.InvalidURL, ValueError):
        return False
    return parsed.scheme in ("http", "https") and bool(parsed.host)


def _error_of(content: bytes) -> str | None:
    """The line of an error in the server's own form; None of any other answer."""
    try:
        found = json.loads(content)["error"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return found if isinstance(found, str) else None


def _one_line(text: str) -> str:
    """At most 500 characters that a terminal and a database take."""
    return "".join(letter if letter.isprintable() else " " for letter in " ".join(text.split()))[:500]


def _head_bytes(request: httpx2.Request) -> int:
    """Bytes of a request beside its content."""
    first = f"{request.method} {request.url.raw_path.decode()} HTTP/1.1"
    return sum(len(line) + 2 for line in (first, *map(": ".join, request.headers.items()), ""))


def _retry_after(response: httpx2.Response) -> float:
    """Seconds the server asks to wait; 0 if it does not say, or says it as a date."""
    value = response.headers.get("Retry-After", "")
    return float(value) if value.isascii() and value.isdecimal() else 0.0

"""Frames to a server, in batches that may be retried.

A face is named by the device and a sequence number, and the server acknowledges after its commit, so sending a batch
again can do no harm: what is known already is answered as a duplicate. Whatever may pass - no connection, a timeout, a
busy or restarting server - is therefore tried again, with growing random pauses that keep a fleet of devices from
returning in step; the server's `Retry-After` is a lower bound. What will not pass is raised at once.
"""

import random
import re
import ssl
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING

import httpx2
from pydantic import ValidationError

from edge_stscq import __version__
from edge_stscq.errors import EdgeError
from edge_stscq.protocol import (
    DEVICE_HEADER,
    FRAMES_PATH,
    MAX_SEQUENCE,
    SEQUENCE_HEADER,
    Acknowledgement,
    check_device,
)
from edge_stscq.stream.frame import split_stream

if TYPE_CHECKING:
    from edge_stscq.client.drain import DrainReport
    from edge_stscq.client.spool import Spool

PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})
"""Answers that another try may change."""
MAX_PAUSE = 30.0
"""Longest pause between two tries, in seconds, whatever the server asks for."""


@dataclass(frozen=True)
class SendReport:
    """Counters of one `send_stream`: frames acknowledged, what became of them, and what it took.

    `bytes` counts request bodies, each acknowledged one once.
    """

    frames: int = 0
    stored: int = 0
    extended: int = 0
    duplicate: int = 0
    bytes: int = 0
    requests: int = 0
    retries: int = 0


class UnreachableError(EdgeError):
    """No server could be reached, or none that was able to answer; the same may succeed later."""


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
        token: bearer token, if the server asks for one.
        batch: most frames in one request.
        attempts: tries for each request before giving up.
        timeout: seconds without progress before a try has failed.
        pause: seconds before the second try, give or take half; it doubles with each further one.
        tls: from `certificate.tls_context`; what this machine trusts if None.
        transport: how requests travel; the network if None.
        sleep: how to wait between two tries.

    Raises:
        EdgeError: `url` is not an http(s) address, or `device` or `token` cannot stand in a header.

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
            raise EdgeError(f"{url!r} is not a server address; use e.g. http://127.0.0.1:8377")
        check_device(device)
        self.device = device
        headers = {"User-Agent": f"edge-stscq/{__version__}", DEVICE_HEADER: device}
        if token:
            if not re.fullmatch(r"[!-~]+", token):
                raise EdgeError("the token has spaces or non-ASCII characters; copy it from the server again")
            headers["Authorization"] = f"Bearer {token}"
        verify = True if tls is None else tls
        self._http = httpx2.Client(headers=headers, timeout=timeout, transport=transport, verify=verify)
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
        """Send every frame of a stream; the first becomes face `<device>-<start_sequence>`.

        Args:
            data: a file header and its frames.
            on_progress: called with the counters after each acknowledged batch.

        Raises:
            FrameError: the stream is damaged; nothing was sent.
            EdgeError: the server refused a batch or stayed out of reach; the message says how much was acknowledged.
        """
        header, frames = split_stream(data)
        report = SendReport()
        for first in range(0, len(frames), self._batch):
            part = frames[first : first + self._batch]
            try:
                answer, tries = self.send_batch(header, part, start_sequence + first)
            except EdgeError as error:
                raise EdgeError(f"{error} ({report.frames} of {len(frames)} frames were acknowledged)") from None
            report = SendReport(
                frames=report.frames + answer.count,
                stored=report.stored + answer.stored,
                extended=report.extended + answer.extended,
                duplicate=report.duplicate + answer.duplicate,
                bytes=report.bytes + len(header) + sum(map(len, part)),
                requests=report.requests + tries,
                retries=report.retries + tries - 1,
            )
            on_progress(report)
        return report

    def send_batch(
        self,
        header: bytes,
        frames: Sequence[bytes],
        sequence: int,
        before_try: Callable[[int], None] = lambda size: None,
    ) -> tuple[Acknowledgement, int]:
        """One request until it is acknowledged; also the number of tries that took.

        Args:
            header: begins every stream, 13 bytes.
            frames: of the faces `<device>-<sequence>`, `<device>-<sequence + 1>`, ...
            before_try: called with the bytes of the request, HTTP header and body, before each try.

        Raises:
            UnreachableError: no try was answered in a way that could be final.
            EdgeError: the server refused the frames.
        """
        body = header + b"".join(frames)
        for tries in range(1, self._attempts + 1):
            before_try(self.request_overhead + len(body))
            try:
                answer = self._try(body, sequence)
            except _PassingError as error:
                if tries == self._attempts:
                    raise UnreachableError(
                        f"gave up after {tries} tries: {error}; run the same command again"
                    ) from None
                grown = self._pause * 2 ** (tries - 1) * random.uniform(0.5, 1.5)
                self._sleep(min(max(grown, error.after), MAX_PAUSE))
            else:
                break
        if answer.count != len(frames):
            raise EdgeError(f"{self._url} acknowledged {answer.count} of {len(frames)} frames; check --url")
        return answer, tries

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
        request = self._request(b" " * 10**5, MAX_SEQUENCE)
        lines = [
            f"{request.method} {request.url.raw_path.decode()} HTTP/1.1",
            *map(": ".join, request.headers.items()),
            "",
        ]
        return sum(len(line) + 2 for line in lines)

    def _request(self, body: bytes, sequence: int) -> httpx2.Request:
        headers = {SEQUENCE_HEADER: str(sequence), "Content-Type": "application/octet-stream"}
        return self._http.build_request("POST", self._url + FRAMES_PATH, content=body, headers=headers)

    def _try(self, body: bytes, sequence: int) -> Acknowledgement:
        try:
            response = self._http.send(self._request(body, sequence))
        except httpx2.TransportError as error:
            raise _PassingError(f"{self._url} cannot be reached ({str(error) or type(error).__name__})") from error
        if response.status_code in PASSING:
            raise _PassingError(f"{self._url} answered {_reason(response)}", _retry_after(response))
        if response.status_code == 401:
            hint = "give the device's token with --token-file FILE or EDGE_STSCQ_TOKEN (`edge-stscq token create`)"
            raise EdgeError(f"{self._url} refused frames from number {sequence}: {_reason(response)}; {hint}")
        if not response.is_success:
            raise EdgeError(f"{self._url} refused frames from number {sequence}: {_reason(response)}")
        try:
            return Acknowledgement.model_validate_json(response.content)
        except ValidationError:
            raise EdgeError(f"{self._url} did not answer like an edge-stscq server; check --url") from None


def _is_address(url: str) -> bool:
    try:
        parsed = httpx2.URL(url)
    except (httpx2.InvalidURL, ValueError):
        return False
    return parsed.scheme in ("http", "https") and bool(parsed.host)


def _reason(response: httpx2.Response) -> str:
    """Status and the server's one-line error, if it sent one."""
    try:
        message = str(response.json()["error"])
    except (ValueError, KeyError, TypeError):
        message = response.reason_phrase
    return " ".join(f"{response.status_code} {message}".split())[:500]


def _retry_after(response: httpx2.Response) -> float:
    """Seconds the server asks to wait; 0 if it does not say, or says it as a date."""
    value = response.headers.get("Retry-After", "")
    return float(value) if value.isascii() and value.isdecimal() else 0.0

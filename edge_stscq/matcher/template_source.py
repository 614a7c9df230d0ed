"""The server as the matcher sees it: templates as they come and go, new ones sent, old ones erased."""

import json
import ssl
from base64 import b64decode
from datetime import datetime
from types import TracebackType
from typing import Any, NamedTuple

import httpx2
from pydantic import BaseModel, Field, ValidationError

from edge_stscq._local_servers import local_token
from edge_stscq.client.sender import Sender
from edge_stscq.errors import EdgeError
from edge_stscq.privacy import FaceTemplate
from edge_stscq.protocol import DEVICE_NAME, TEMPLATES_PATH
from edge_stscq.stream.envelope import new_stream_key, stream_id
from edge_stscq.stream.protected import protected_face

PAGE = 1000
"""Changes of the server's store that are looked at in one request."""
MAX_ANSWER = 4 << 20
"""Bytes of an answer that are read: more than a page of the longest templates."""
SECONDS = 10.0
"""Without progress, before a request has failed."""


class SourceError(EdgeError):
    """The server does not answer, or refuses what the matcher asks."""


class _Template(BaseModel):
    id: str = Field(pattern=rf"^{DEVICE_NAME}-[0-9]{{1,16}}$")
    device: str = Field(pattern=rf"^{DEVICE_NAME}$")
    model_id: str = Field(pattern="^[0-9a-f]{16}$")
    captured: datetime | None
    template: str


class _Page(BaseModel):
    templates: list[_Template]
    erased: list[str]
    next: int
    complete: bool


class Changes(NamedTuple):
    """Templates and erasures after a revision; go on after `next` until it is complete."""

    templates: list[FaceTemplate]
    erased: list[str]
    next: int
    complete: bool


class TemplateSource:
    """A connection to one server; use it as a context manager.

    Args:
        url: address of the server.
        device: by which the server names what `send` brings.
        token: of scope `templates`; for `send` and `erase` also of `send` and `delete`. None is that of a server of
            this user on this machine.
        tls: from `client_context`.
        transport: how requests travel; the network if None.

    Raises:
        EdgeError: as `Sender`.
    """

    def __init__(
        self, url: str, device: str = "matcher", *, token: str | None = None, tls: ssl.SSLContext | None = None,
        transport: httpx2.BaseTransport | None = None,
    ) -> None:  # fmt: skip
        self.url, self._token = url.rstrip("/"), token
        self._sender = Sender(url, device, token=token, attempts=2, timeout=SECONDS, tls=tls, transport=transport)
        verify = True if tls is None else tls
        self._http = httpx2.Client(timeout=SECONDS, transport=transport, verify=verify)

    def __enter__(self) -> "TemplateSource":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._sender.__exit__(kind, error, trace)
        self._http.close()

    @property
    def device(self) -> str:
        """By which the server names what this sends."""
        return self._sender.device

    def changes(self, after: int) -> Changes:
        """Some of the changes after a revision.

        Raises:
            SourceError: the server does not answer, or not with templates.
        """
        status, content = self._ask("GET", f"{TEMPLATES_PATH}?after={after}&limit={PAGE}")
        if status != 200:
            raise self._refused("no templates", status, content)
        try:
            page = _Page.model_validate_json(content)
            if page.next > after or (page.complete and page.next == after):  # or a follower would never come to an end
                return Changes([_read(one) for one in page.templates], page.erased, page.next, page.complete)
        except (ValidationError, ValueError):
            pass
        raise SourceError(f"{self.url} does not answer as a server of templates; check --server")

    def send(self, template: bytes, model_id: bytes) -> str:
        """Store a template; the name of its face. Its stream is its own: nobody can write into it later.

        Raises:
            SourceError: the server does not answer, or refuses it.
            EdgeError: the template is too long to travel.
        """
        key = new_stream_key()
        (frame,) = protected_face(template, model_id).frames(stream_id(key), self.device, 0)
        try:
            answer = self._sender.send_frames([frame], key).answer
        except EdgeError as error:
            raise SourceError(str(error)) from None
        if answer.refused:
            raise SourceError(f"{self.url} refused the template: {answer.refused[0].reason}")
        return frame.name

    def erase(self, face: str) -> None:
        """Erase a face for good.

        Raises:
            SourceError: the server does not answer, or the token may not erase.
        """
        status, content = self._ask("DELETE", f"/v1/faces/{face}")
        if status not in (200, 404):
            raise self._refused(f"no erasure of {face}", status, content)

    def _ask(self, method: str, path: str) -> tuple[int, bytes]:
        token = self._token or local_token(self.url)
        headers = {"Accept-Encoding": "identity"} | ({} if token is None else {"Authorization": f"Bearer {token}"})
        content = bytearray()
        try:
            with self._http.stream(method, self.url + path, headers=headers) as response:
                for part in response.iter_bytes() if "Content-Encoding" not in response.headers else ():
                    content += part  # nothing that was packed is unpacked: a server of ours packs nothing
                    if len(content) > MAX_ANSWER:
                        raise SourceError(f"{self.url} answers with over {MAX_ANSWER} bytes; check --server")
                return response.status_code, bytes(content)
        except (httpx2.TransportError, UnicodeError) as error:
            raise SourceError(f"{self.url} cannot be reached ({str(error) or type(error).__name__})") from None

    def _refused(self, what: str, status: int, content: bytes) -> SourceError:
        return SourceError(f"{self.url} gives {what}: {status} {_line_of(content)}")


def _read(one: _Template) -> FaceTemplate:
    template, model = b64decode(one.template, validate=True), bytes.fromhex(one.model_id)
    return FaceTemplate(one.id, template, model, one.device, one.captured)


def _line_of(content: bytes) -> str:
    """The line of an error in the server's own form."""
    try:
        found: Any = json.loads(content)["error"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return "and no reason; check --server"
    return " ".join(str(found).split())[:500]

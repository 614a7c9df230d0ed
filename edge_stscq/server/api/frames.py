"""`POST /v2/frames`, which every camera uses all day, and `POST /v1/frames` of older cameras.

They ask the guard themselves: FastAPI's dependencies, which the other routes use, take a third of the time of such a
request.
"""

import re
from typing import Any

from fastapi import APIRouter, HTTPException, Request, Response

from edge_stscq.errors import FrameError
from edge_stscq.protocol import (
    DEVICE_HEADER,
    DEVICE_NAME,
    FRAMES_PATH,
    MAX_SEQUENCE,
    SEQUENCE_HEADER,
    STREAMS_PATH,
    Acknowledgement,
    StreamAcknowledgement,
)
from edge_stscq.server.api.schemas import ErrorAnswer
from edge_stscq.server.auth.audit_log import annotate
from edge_stscq.server.auth.guard import BEARER, Guard
from edge_stscq.server.auth.scope import Scope
from edge_stscq.server.ingest import Answer, FrameUpload, StreamUpload, Upload
from edge_stscq.server.metrics import Metrics
from edge_stscq.server.write_queue import GroupCommitQueue
from edge_stscq.stream.wire import PREAMBLE, check_version, read_section

_DEVICE = re.compile(DEVICE_NAME)
_DOCUMENTED: dict[str, Any] = {
    "parameters": [
        {
            "name": DEVICE_HEADER, "in": "header", "required": True,
            "schema": {"type": "string", "pattern": f"^{DEVICE_NAME}$"},
        },
        {
            "name": SEQUENCE_HEADER, "in": "header", "required": True,
            "description": "number of the first frame; the others follow it",
            "schema": {"type": "integer", "minimum": 0, "maximum": MAX_SEQUENCE},
        },
    ],
    "security": [{BEARER.scheme_name: [Scope.SEND]}],
    "requestBody": {
        "required": True, "description": "a stream: file header and frames",
        "content": {"application/octet-stream": {}},
    },
}  # fmt: skip


_DOCUMENTED_2: dict[str, Any] = {
    "security": _DOCUMENTED["security"],
    "requestBody": {
        "required": True, "description": "a file of wire version 2, all of one device",
        "content": {"application/octet-stream": {}},
    },
}  # fmt: skip


def routes(guard: Guard, queue: GroupCommitQueue[Upload, Answer], metrics: Metrics) -> APIRouter:
    router = APIRouter(responses={"4XX": {"model": ErrorAnswer}})

    @router.post(STREAMS_PATH, response_model=StreamAcknowledgement, openapi_extra=_DOCUMENTED_2)
    async def post_stream(request: Request) -> Response:
        principal = await guard.authorize(request, Scope.SEND)
        with metrics.count_rejections():
            body = await guard.body(request, principal)
            device = _device_of(body)
            annotate(request, device=device)
            principal.check_device(device)
            answer = await queue.submit(StreamUpload(device, body))
        return _acknowledged(request, answer, body)

    @router.post(FRAMES_PATH, response_model=Acknowledgement, openapi_extra=_DOCUMENTED)
    async def post_frames(request: Request) -> Response:
        principal = await guard.authorize(request, Scope.SEND)
        device, first = _read_headers(request)
        annotate(request, device=device, first=first)
        with metrics.count_rejections():
            principal.check_device(device)
            body = await guard.body(request, principal)
            answer = await queue.submit(FrameUpload(device, first, body))
        return _acknowledged(request, answer, body)

    def _acknowledged(request: Request, answer: Answer, body: bytes) -> Response:
        metrics.record_upload(answer, len(body))
        counts = answer.model_dump(exclude={"refused"})
        refused = len(answer.refused) if isinstance(answer, StreamAcknowledgement) else 0
        annotate(request, **counts, **({"refused": refused} if refused else {}))
        return Response(answer.model_dump_json(), media_type="application/json")

    return router


def _device_of(body: bytes) -> str:
    """Device that the first section names.

    Raises:
        FrameError: the body does not begin like a file of version 2.
    """
    if check_version(body) != 2:
        raise FrameError(f"this is a stream of version 1; it belongs to {FRAMES_PATH}")
    if len(body) == len(PREAMBLE):
        raise FrameError("the file has no frame; nothing to store")
    section, _ = read_section(body, len(PREAMBLE))
    return section.source.device


def _read_headers(request: Request) -> tuple[str, int]:
    """Device and number of the first frame; `HTTPException` 422 if they are missing or cannot be."""
    device, first = (request.headers.get(name, "") for name in (DEVICE_HEADER, SEQUENCE_HEADER))
    if not _DEVICE.fullmatch(device):
        raise HTTPException(422, f"{DEVICE_HEADER}: it must name a device, with {DEVICE_NAME}")
    if not (first.isascii() and first.isdecimal() and len(first) <= 16 and int(first) <= MAX_SEQUENCE):
        raise HTTPException(422, f"{SEQUENCE_HEADER}: it must be a whole number from 0 to {MAX_SEQUENCE}")
    return device, int(first)

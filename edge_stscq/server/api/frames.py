"""`POST /v1/frames`, which every camera uses all day.

It reads its two headers and asks the guard itself: FastAPI's dependencies, which the other routes use, take a third of
the time of such a request.
"""

import re
from typing import Any

from fastapi import APIRouter, HTTPException, Request, Response

from edge_stscq.protocol import DEVICE_HEADER, DEVICE_NAME, FRAMES_PATH, MAX_SEQUENCE, SEQUENCE_HEADER, Acknowledgement
from edge_stscq.server.api.schemas import ErrorAnswer
from edge_stscq.server.auth.audit_log import annotate
from edge_stscq.server.auth.guard import BEARER, Guard
from edge_stscq.server.auth.scope import Scope
from edge_stscq.server.ingest import FrameUpload
from edge_stscq.server.metrics import Metrics
from edge_stscq.server.storage.change_feed import ChangeFeed
from edge_stscq.server.storage.write_queue import GroupCommitQueue

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


def routes(
    guard: Guard, queue: GroupCommitQueue[FrameUpload, Acknowledgement], feed: ChangeFeed, metrics: Metrics
) -> APIRouter:
    router = APIRouter(responses={"4XX": {"model": ErrorAnswer}})

    @router.post(FRAMES_PATH, response_model=Acknowledgement, openapi_extra=_DOCUMENTED)
    async def post_frames(request: Request) -> Response:
        principal = await guard.authorize(request, Scope.SEND)
        device, first = _read_headers(request)
        annotate(request, device=device, first=first)
        with metrics.count_rejections():
            principal.check_device(device)
            body = await guard.body(request, principal)
            acknowledgement = await queue.submit(FrameUpload(device, first, body))
        metrics.record_upload(acknowledgement, len(body))
        feed.notify()
        annotate(request, **acknowledgement.model_dump())
        return Response(acknowledgement.model_dump_json(), media_type="application/json")

    return router


def _read_headers(request: Request) -> tuple[str, int]:
    """Device and number of the first frame; `HTTPException` 422 if they are missing or cannot be."""
    device, first = (request.headers.get(name, "") for name in (DEVICE_HEADER, SEQUENCE_HEADER))
    if not _DEVICE.fullmatch(device):
        raise HTTPException(422, f"{DEVICE_HEADER}: it must name a device, with {DEVICE_NAME}")
    if not (first.isascii() and first.isdecimal() and len(first) <= 16 and int(first) <= MAX_SEQUENCE):
        raise HTTPException(422, f"{SEQUENCE_HEADER}: it must be a whole number from 0 to {MAX_SEQUENCE}")
    return device, int(first)

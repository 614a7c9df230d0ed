"""`POST /v1/match`: the stored faces most like this one, told from tokens alone.

The body is a stream with one frame, or `{"face": "<device>-<number>"}` for a face that is stored. The index follows the
feed, so what any server of the store has accepted can be found a moment later. At the start it takes in the latest
faces; until that is done, answers say `complete: false`.
"""

import asyncio
import logging
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from edge_stscq.errors import EdgeError
from edge_stscq.server.api.schemas import FaceInfo, Match, MatchPage
from edge_stscq.server.auth.audit_log import annotate
from edge_stscq.server.auth.guard import Guard, Principal
from edge_stscq.server.auth.tokens import DEVICE_NAME, Scope
from edge_stscq.server.decoding.catalog import Order
from edge_stscq.server.ingest import Ingest
from edge_stscq.server.search import FaceIndexes
from edge_stscq.server.storage.change_feed import ChangeFeed
from edge_stscq.server.storage.face_store import FaceStore
from edge_stscq.stream.frame import MAGIC

log = logging.getLogger(__name__)

RETRY_SECONDS = 1.0
"""Seconds after which a store that failed is read again."""


class _Example(BaseModel):
    model_config = ConfigDict(extra="forbid")
    face: str = Field(max_length=100)


async def follow_changes(index: FaceIndexes, feed: ChangeFeed, capacity: int) -> None:
    """Fill the indexes with the newest faces and keep them up to date; runs until it is cancelled."""
    after = await feed.start(None, capacity)
    while True:
        try:
            async for faces in feed.changes(max(after, index.revision)):
                await asyncio.to_thread(index.add, faces)
        except Exception as error:
            log.error("the index of faces cannot be kept up to date now: %s", error)
            await asyncio.sleep(RETRY_SECONDS)


def match_routes(guard: Guard, ingest: Ingest, store: FaceStore, indexes: FaceIndexes, feed: ChangeFeed) -> APIRouter:
    router, matches = APIRouter(prefix="/v1"), Depends(guard.require(Scope.MATCH))

    @router.post("/match")
    async def post_match(
        request: Request,
        layers: Annotated[int, Query(ge=1, le=3)] = 1,
        limit: Annotated[int, Query(ge=1, le=100)] = 20,
        device: Annotated[str | None, Query(pattern=rf"^{DEVICE_NAME}$")] = None,
        min_cosine: Annotated[float, Query(ge=-1, le=1)] = -1,
        principal: Principal = matches,
    ) -> MatchPage:
        if device is not None:
            principal.check_device(device)
        body = await guard.body(request, principal)
        if body.startswith(MAGIC):
            example = ingest.example(body, layers)
        else:
            face_id = _example(body)
            principal.check_device(face_id.rpartition("-")[0])
            annotate(request, face=face_id)
            example = await asyncio.to_thread(ingest.order, face_id, layers)
        page = await asyncio.to_thread(answer, example, limit, device or principal.only_device, min_cosine)
        annotate(request, layers=layers, count=len(page.faces))
        return page

    def answer(example: Order, limit: int, device: str | None, min_cosine: float) -> MatchPage:
        current, layers = indexes.revision >= feed.revision, example.job.layers
        index = indexes.of(example.service)
        hits = index.search(example.job.face, layers, limit, device, min_cosine)
        found = [(store.find(one.id), one.cosine) for one in hits]
        best = [
            Match(**FaceInfo.of(stored).model_dump(), cosine=cosine) for stored, cosine in found if stored is not None
        ]
        return MatchPage(layers=layers, searched=len(index), complete=current, faces=best)

    return router


def _example(body: bytes) -> str:
    try:
        return _Example.model_validate_json(body).face
    except ValidationError:
        raise EdgeError('the body is neither a stream with one frame nor {"face": "<device>-<number>"}') from None

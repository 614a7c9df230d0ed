"""`POST /v1/match`: which stored faces are most like this one, told from tokens alone.

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
from edge_stscq.server.audit import note
from edge_stscq.server.feed import Feed
from edge_stscq.server.guard import Caller, Guard
from edge_stscq.server.index import FaceIndexes
from edge_stscq.server.ingest import Ingest
from edge_stscq.server.models import Order
from edge_stscq.server.schemas import FaceInfo, Match, MatchPage
from edge_stscq.server.store import FaceStore
from edge_stscq.server.tokens import DEVICE_NAME, Scope
from edge_stscq.stream.face import MAX_LAYERS
from edge_stscq.stream.frame import MAGIC

log = logging.getLogger(__name__)

RETRY = 1.0
"""Seconds after which a store that failed is read again."""


class _Example(BaseModel):
    model_config = ConfigDict(extra="forbid")
    face: str = Field(max_length=100)


async def keep_current(index: FaceIndexes, feed: Feed, capacity: int) -> None:
    """Fill the indexes with the newest faces and keep them up to date; runs until it is cancelled."""
    after = await feed.start(None, capacity)
    while True:
        try:
            async for faces in feed.changes(max(after, index.revision)):
                await asyncio.to_thread(index.add, faces)
        except Exception as error:
            log.error("the index of faces cannot be kept up to date now: %s", error)
            await asyncio.sleep(RETRY)


def match_routes(guard: Guard, ingest: Ingest, store: FaceStore, indexes: FaceIndexes, feed: Feed) -> APIRouter:
    router, matches = APIRouter(prefix="/v1"), Depends(guard.asks(Scope.MATCH))

    @router.post("/match")
    async def post_match(
        request: Request,
        layers: Annotated[int, Query(ge=1, le=MAX_LAYERS)] = 1,
        limit: Annotated[int, Query(ge=1, le=100)] = 20,
        device: Annotated[str | None, Query(pattern=rf"^{DEVICE_NAME}$")] = None,
        min_cosine: Annotated[float, Query(ge=-1, le=1)] = -1,
        caller: Caller = matches,
    ) -> MatchPage:
        if device is not None:
            caller.check_device(device)
        body = await guard.body(request, caller)
        if body.startswith(MAGIC):
            example = ingest.example(body, layers)
        else:
            face_id = _example(body)
            caller.check_device(face_id.rpartition("-")[0])
            note(request, face=face_id)
            example = await asyncio.to_thread(ingest.order, face_id, layers)
        page = await asyncio.to_thread(answer, example, limit, device or caller.only_device, min_cosine)
        note(request, layers=layers, count=len(page.faces))
        return page

    def answer(example: Order, limit: int, device: str | None, min_cosine: float) -> MatchPage:
        current, layers = indexes.revision >= feed.revision, example.job.layers
        index = indexes.of(example.service)
        likest = index.search(example.job.face, layers, limit, device, min_cosine)
        found = [(store.find(one.id), one.cosine) for one in likest]
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

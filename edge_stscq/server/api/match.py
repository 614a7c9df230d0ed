"""`POST /v1/match`: the stored faces most like this one, told from tokens alone.

The body is a stream with one frame, or `{"face": "<id of a face>"}` for a face that is stored. The index follows the
feed, so what any server of the store has accepted can be found a moment later. At the start it takes in the latest
faces; until that is done, answers say `complete: false`.
"""

import asyncio
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from edge_stscq._limits import MAX_LAYERS
from edge_stscq.errors import EdgeError
from edge_stscq.protocol import DEVICE_NAME
from edge_stscq.server.api.faces import find_permitted
from edge_stscq.server.api.schemas import FaceInfo, Match, MatchPage
from edge_stscq.server.auth.audit_log import annotate, faces_shown
from edge_stscq.server.auth.guard import Guard, Principal
from edge_stscq.server.auth.scope import Scope
from edge_stscq.server.decoding.request import DecodeRequest
from edge_stscq.server.decoding.resolver import RequestResolver
from edge_stscq.server.search import FaceIndexes
from edge_stscq.server.storage.change_feed import ChangeFeed
from edge_stscq.server.storage.face_store import FaceStore, undamaged
from edge_stscq.stream.frame import MAGIC


class _Example(BaseModel):
    model_config = ConfigDict(extra="forbid")
    face: str = Field(max_length=100)


def routes(
    guard: Guard, resolver: RequestResolver, store: FaceStore, indexes: FaceIndexes, feed: ChangeFeed
) -> APIRouter:
    router, matches = APIRouter(prefix="/v1"), Depends(guard.require(Scope.MATCH))

    @router.post("/match")
    async def post_match(
        request: Request,
        layers: Annotated[int, Query(ge=1, le=MAX_LAYERS)] = 1,
        limit: Annotated[int, Query(ge=1, le=100)] = 20,
        device: Annotated[str | None, Query(pattern=rf"^{DEVICE_NAME}$")] = None,
        min_cosine: Annotated[float, Query(ge=-1, le=1)] = -1,
        principal: Principal = matches,
    ) -> MatchPage:
        if device is not None:
            principal.check_device(device)
        body = await guard.body(request, principal)
        if body.startswith(MAGIC):
            example = resolver.for_stream(body, layers)
        else:
            face_id = _example(body)
            annotate(request, face=face_id)
            stored = await find_permitted(resolver, principal, face_id)
            example = await asyncio.to_thread(resolver.for_face, stored, layers)
        page = await asyncio.to_thread(answer, example, limit, device, principal.only_device, min_cosine)
        annotate(request, layers=layers, count=len(page.faces), faces=faces_shown(face.id for face in page.faces))
        return page

    def answer(
        example: DecodeRequest, limit: int, device: str | None, only: str | None, min_cosine: float
    ) -> MatchPage:
        current, index = indexes.revision >= feed.revision, indexes.of(example.model_id)
        cosines = {hit.id: hit.cosine for hit in index.search(example.face, limit, device or only, min_cosine)}
        found = [stored for stored in map(store.find, cosines) if stored is not None]
        best = [Match(**FaceInfo.of(face).model_dump(), cosine=cosines[face.id]) for face in undamaged(found)]
        return MatchPage(layers=example.layers, searched=index.count(only), complete=current, faces=best)

    return router


def _example(body: bytes) -> str:
    try:
        return _Example.model_validate_json(body).face
    except ValidationError:
        raise EdgeError('the body is neither a stream with one frame nor {"face": "<id of a face>"}') from None

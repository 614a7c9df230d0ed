"""`POST /v1/match`: the stored faces most like this one, told from tokens alone, and whether to believe it.

The body is a stream with one frame, or `{"face": "<id of a face>"}` for a face that is stored. The index follows the
feed, so what any server of the store has accepted can be found a moment later. At the start it takes in the latest
faces; until that is done, answers say `complete: false`.
"""

import asyncio
from typing import Annotated

from fastapi import APIRouter, Depends, HTTPException, Query, Request
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from edge_stscq._limits import MAX_LAYERS
from edge_stscq.config.match_thresholds import Limits
from edge_stscq.errors import EdgeError
from edge_stscq.protocol import DEVICE_NAME
from edge_stscq.server.api.faces import find_permitted
from edge_stscq.server.api.schemas import (
    ErrorAnswer,
    FaceInfo,
    Match,
    MatchPage,
    MatchThresholdPair,
    PictureMatchPage,
    Threshold,
)
from edge_stscq.server.auth.audit_log import annotate, faces_shown
from edge_stscq.server.auth.guard import Guard, Principal
from edge_stscq.server.auth.scope import Scope
from edge_stscq.server.decoding.catalog import ModelCatalog
from edge_stscq.server.decoding.request import DecodeRequest
from edge_stscq.server.decoding.resolver import RequestResolver
from edge_stscq.server.matching.indexes import FaceIndexes
from edge_stscq.server.matching.vectors import SearchHit
from edge_stscq.server.pictures.encoder import PictureEncoder
from edge_stscq.server.storage.change_feed import ChangeFeed
from edge_stscq.server.storage.face_store import FaceStore, StoredFace, undamaged
from edge_stscq.stream.frame import MAGIC

Layers = Annotated[int, Query(ge=1, le=MAX_LAYERS)]
Limited = Annotated[int, Query(ge=1, le=100)]
Device = Annotated[str | None, Query(pattern=rf"^{DEVICE_NAME}$")]
Cosine = Annotated[float, Query(ge=-1, le=1)]


class _Example(BaseModel):
    model_config = ConfigDict(extra="forbid")
    face: str = Field(max_length=100)


def routes(
    guard: Guard,
    resolver: RequestResolver,
    catalog: ModelCatalog,
    store: FaceStore,
    indexes: FaceIndexes,
    feed: ChangeFeed,
    pictures: PictureEncoder | None = None,
    max_picture_bytes: int = 8 << 20,
) -> APIRouter:
    router, matches = APIRouter(prefix="/v1"), Depends(guard.require(Scope.MATCH))

    @router.post("/match")
    async def post_match(
        request: Request,
        layers: Layers = 1,
        limit: Limited = 20,
        device: Device = None,
        min_cosine: Cosine = -1,
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

    @router.post("/match/picture", responses={"4XX": {"model": ErrorAnswer}})
    async def post_match_picture(
        request: Request,
        layers: Layers | None = None,
        limit: Limited = 20,
        device: Device = None,
        min_cosine: Cosine = -1,
        principal: Principal = matches,
    ) -> PictureMatchPage:
        """Search by the largest face of a JPEG, PNG or WebP file, coded and judged as a camera does it.

        All layers are compared, unless fewer are asked for.
        """
        if device is not None:
            principal.check_device(device)
        if pictures is None:
            raise HTTPException(503, "this server codes no pictures; start it with --bundle")
        pictures.check_free()
        seen = await pictures.encode(await guard.body(request, principal, max_picture_bytes))
        annotate(request, count=0, picture="refused" if seen.face is None else "coded")
        if seen.face is None:
            raise HTTPException(422, seen.reason)
        entry = catalog.find(seen.model_id, "this picture")
        count = seen.face.layers if layers is None else entry.config.check_layers(layers)
        face = seen.face.truncate(count, entry.config.layer_ends)
        example = DecodeRequest(seen.model_id, face)
        page = await asyncio.to_thread(answer, example, limit, device, principal.only_device, min_cosine)
        annotate(request, layers=count, count=len(page.faces), faces=faces_shown(face.id for face in page.faces))
        return PictureMatchPage(**dict(page), quality=seen.quality, box=seen.box, faces_in_picture=seen.faces)

    def answer(
        example: DecodeRequest, limit: int, device: str | None, only: str | None, min_cosine: float
    ) -> MatchPage:
        current, index = indexes.revision >= feed.revision, indexes.of(example.model_id)
        hits = {hit.id: hit for hit in index.search(example.face, limit, device or only, min_cosine)}
        rule, searched = catalog.find(example.model_id, "this face").rule, index.count(only)
        limits = None if rule is None else rule.thresholds.limits(example.layers)
        best = [_match(face, hits[face.id], limits) for face in undamaged(store.find_all(list(hits)))]
        passed = None if limits is None or not best else limits.passed(best[0].score)
        rate = None if passed is None else passed.false_match_rate
        strangers = None if rate is None else rate * index.count(device or only)
        return MatchPage(
            layers=example.layers, searched=searched, complete=current, faces=best,
            verdict=None if limits is None else best[0].verdict if best else "nobody here",
            false_match_rate=rate, expected_strangers=strangers, thresholds=_thresholds(limits),
        )  # fmt: skip

    return router


def _match(face: StoredFace, hit: SearchHit, limits: Limits | None) -> Match:
    verdict = None if limits is None else limits.verdict(hit.score)
    return Match(**FaceInfo.of(face).model_dump(), cosine=hit.cosine, score=hit.score, verdict=verdict)


def _thresholds(limits: Limits | None) -> MatchThresholdPair | None:
    if limits is None:
        return None
    return MatchThresholdPair(same_person=Threshold.of(limits.same_person), perhaps=Threshold.of(limits.perhaps))


def _example(body: bytes) -> str:
    try:
        return _Example.model_validate_json(body).face
    except ValidationError:
        raise EdgeError('the body is neither a stream with one frame nor {"face": "<id of a face>"}') from None

"""The matcher's web application: four routes behind the same front as the server's."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import numpy as np
from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import JSONResponse
from numpy.typing import NDArray

from edge_stscq import __version__
from edge_stscq.config.template_thresholds import TemplateThresholds
from edge_stscq.errors import EdgeError
from edge_stscq.matcher.follower import Follower, following
from edge_stscq.matcher.records import Changed, Records
from edge_stscq.matcher.schemas import (
    ChangeAnswer,
    Embedded,
    EnrollRequest,
    Hit,
    MatchAnswer,
    MatchRequest,
    RevokeRequest,
    read_request,
)
from edge_stscq.matcher.settings import MatcherSettings
from edge_stscq.matcher.template_source import SourceError, TemplateSource
from edge_stscq.privacy import TemplateMatcher
from edge_stscq.server.auth.audit_log import AuditMiddleware, AuditTrail, annotate, faces_shown
from edge_stscq.server.auth.guard import Guard, Principal
from edge_stscq.server.auth.scope import Scope
from edge_stscq.server.auth.tokens import TokenStore
from edge_stscq.server.errors import error_response, install_exception_handlers
from edge_stscq.server.front.checks import RequestChecks
from edge_stscq.server.security_headers import SecurityHeadersMiddleware


def create_app(
    matcher: TemplateMatcher, source: TemplateSource, tokens: TokenStore, settings: MatcherSettings | None = None,
    thresholds: TemplateThresholds | None = None,
) -> FastAPI:  # fmt: skip
    """The application; it closes the tokens when it ends.

    Args:
        thresholds: by which scores are judged; without them there is no verdict.

    Raises:
        EdgeError: the thresholds are not of the matcher's scheme.

    Example:
        >>> app = create_app(TemplateMatcher(scheme, KeyRing([keys])), TemplateSource(url, token=token), tokens)
    """
    guard, trail = Guard(settings or MatcherSettings(), tokens), AuditTrail()
    follower, records = Follower(source, matcher), Records(matcher, source)
    limits = None if thresholds is None else thresholds.limits(matcher.scheme.name)
    judged = "" if thresholds is None else thresholds.model_id

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        try:
            async with following(follower):
                yield
        finally:
            guard.close()
            trail.close()

    app = FastAPI(title="edge-stscq matcher", version=__version__, lifespan=lifespan, openapi_url=None)
    app.add_middleware(RequestChecks)
    app.add_middleware(SecurityHeadersMiddleware)
    app.add_middleware(AuditMiddleware, trail=trail)
    app.state.follower, app.state.matcher = follower, matcher
    install_exception_handlers(app)

    @app.exception_handler(SourceError)
    async def source_failed(request: Request, error: SourceError) -> JSONResponse:
        return error_response(502, error)

    @app.get("/health")
    async def health() -> JSONResponse:
        return JSONResponse({"ok": True})

    @app.get("/ready")
    async def ready() -> JSONResponse:
        return JSONResponse({"ok": follower.reason is None, "reason": follower.reason}, 503 if follower.reason else 200)

    @app.post("/v1/match")
    async def match(request: Request) -> MatchAnswer:
        principal = await guard.authorize(request, Scope.MATCH)
        asked = read_request(MatchRequest, await guard.body(request, principal))
        if asked.device is not None:
            principal.check_device(asked.device)
        if asked.record is not None and asked.face is not None:
            raise EdgeError("a face is matched with a record or with a template; name one of them")
        hits = await asyncio.to_thread(find, asked, principal)
        annotate(request, count=len(hits), faces=faces_shown(hit.face for hit in hits))
        held = matcher.unmatched
        return MatchAnswer(
            scheme=matcher.scheme.name, searched=len(matcher), without_key=held["without key"],
            refused=held["refused"], complete=follower.complete, hits=hits,
        )  # fmt: skip

    def find(asked: MatchRequest, principal: Principal) -> list[Hit]:
        if follower.keys_failure is not None:
            raise HTTPException(503, f"nothing is matched: {follower.keys_failure}")
        embedding, model = vector(asked), bytes.fromhex(asked.model_id)
        known = limits if asked.model_id == judged else None
        if asked.record is None and asked.face is None:
            found = matcher.match(embedding, model, asked.limit, asked.device or principal.only_device)
            return [Hit.of(hit, known) for hit in found]
        if asked.record is not None:
            hit = matcher.verify(asked.record, embedding, model)
        else:
            hit = matcher.verify_face(str(asked.face), embedding, model)
        principal.check_device(hit.device)
        return [Hit.of(hit, known)]

    @app.post("/v1/enroll")
    async def enroll(request: Request) -> ChangeAnswer:
        return await replaced(request, records.enroll)

    @app.post("/v1/renew")
    async def renew(request: Request) -> ChangeAnswer:
        return await replaced(request, records.renew)

    async def replaced(
        request: Request, change: Callable[[str, NDArray[np.float32], bytes], Changed]
    ) -> ChangeAnswer:  # fmt: skip
        principal = await permitted(request, Scope.EDIT)
        asked = read_request(EnrollRequest, await guard.body(request, principal))
        result = await asyncio.to_thread(change, asked.record, vector(asked), bytes.fromhex(asked.model_id))
        return changed(request, asked.record, result)

    @app.post("/v1/revoke")
    async def revoke(request: Request) -> ChangeAnswer:
        principal = await permitted(request, Scope.DELETE)
        asked = read_request(RevokeRequest, await guard.body(request, principal))
        return changed(request, asked.record, await asyncio.to_thread(records.revoke, asked.record))

    async def permitted(request: Request, scope: Scope) -> Principal:
        """The principal of a change, whose token must be of all devices or of the matcher's own."""
        principal = await guard.authorize(request, scope)
        principal.check_device(source.device)
        return principal

    def changed(request: Request, record: str, result: Changed) -> ChangeAnswer:
        """The answer; the audit log names faces, since a record may be called like a person."""
        faces = [*result.erased, *result.left, *([] if result.face is None else [result.face])]
        annotate(request, count=len(faces), faces=faces_shown(faces))
        return ChangeAnswer(record=record, **result._asdict())

    return app


def vector(asked: Embedded) -> NDArray[np.float32]:
    """The embedding float32 `[128]` of a request."""
    return np.asarray(asked.embedding, np.float32)

"""Exception handlers: every error is one line of JSON; transient ones carry Retry-After."""

import logging
import math
import sqlite3
from collections.abc import Mapping

from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError, WebSocketRequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.requests import ClientDisconnect

from edge_stscq.errors import EdgeError
from edge_stscq.server.decoding.backend import BusyError
from edge_stscq.server.decoding.catalog import WrongModelError
from edge_stscq.server.decoding.resolver import NoFaceError, ProtectedFaceError
from edge_stscq.server.ingest import ConflictError, TooManyFramesError
from edge_stscq.server.persons.edit_log import UndoError
from edge_stscq.server.persons.reading import NoPersonError
from edge_stscq.server.security_headers import SECURITY_HEADERS
from edge_stscq.server.storage.database import StoreError
from edge_stscq.server.storage.face_store import DamagedFaceError

log = logging.getLogger(__name__)

STATUS = {
    ConflictError: 409, WrongModelError: 409, NoFaceError: 404, TooManyFramesError: 413, DamagedFaceError: 500,
    NoPersonError: 404, UndoError: 409, ProtectedFaceError: 409,
}  # fmt: skip
"""Answers to bad input, and to what the store has spoiled; 400 for the rest."""


def error_response(status: int, message: object, headers: Mapping[str, str] | None = None) -> JSONResponse:
    return JSONResponse({"error": " ".join(str(message).split())}, status, headers)


def busy_response(message: object, seconds: float = 1) -> JSONResponse:
    """503, and after how many seconds it may work."""
    return error_response(503, message, {"Retry-After": str(max(1, math.ceil(seconds)))})


def install_exception_handlers(app: FastAPI) -> None:
    """Answer whatever is raised in one line."""

    @app.exception_handler(StarletteHTTPException)
    async def http(request: Request, error: HTTPException) -> JSONResponse:
        return error_response(error.status_code, error.detail, error.headers)

    @app.exception_handler(RequestValidationError)
    @app.exception_handler(WebSocketRequestValidationError)
    async def invalid(
        request: Request, error: RequestValidationError | WebSocketRequestValidationError
    ) -> JSONResponse:
        first = error.errors()[0]
        return error_response(422, f"{first['loc'][-1]}: {first['msg']}")

    @app.exception_handler(EdgeError)
    async def bad_input(request: Request, error: EdgeError) -> JSONResponse:
        return error_response(next((status for kind, status in STATUS.items() if isinstance(error, kind)), 400), error)

    @app.exception_handler(BusyError)
    async def busy(request: Request, error: BusyError) -> JSONResponse:
        return busy_response(f"busy: {error}", error.retry_after)

    @app.exception_handler(StoreError)
    @app.exception_handler(sqlite3.Error)
    async def store_failed(request: Request, error: StoreError | sqlite3.Error) -> JSONResponse:
        log.error("the store failed: %s", error)
        return busy_response("the store cannot be used now; the server's log says why")

    @app.exception_handler(ClientDisconnect)
    async def disconnected(request: Request, error: ClientDisconnect) -> Response:
        return Response(status_code=499)

    @app.exception_handler(Exception)
    async def defect(request: Request, error: Exception) -> JSONResponse:
        return error_response(500, "internal error; the server's log has the details", SECURITY_HEADERS)

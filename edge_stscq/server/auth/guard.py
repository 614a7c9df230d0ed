"""Access to the routes: authentication, scopes, and rate limits.

Every request needs a token: of the scope that its route asks for, and of the device whose faces it touches. Where none
was made yet, nobody is let in: what a request does not carry (a proxy's header, a foreign host name) shows nothing.
"""

import asyncio
import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NoReturn, Protocol

from fastapi import HTTPException, Request, Security
from fastapi.openapi.models import HTTPBearer
from fastapi.security.base import SecurityBase
from starlette.requests import HTTPConnection

from edge_stscq._local_servers import is_loopback
from edge_stscq.errors import EdgeError
from edge_stscq.server.auth import audit_log as audit
from edge_stscq.server.auth.rate_limit import RateLimited, RateLimiter
from edge_stscq.server.auth.scope import Scope
from edge_stscq.server.auth.token_reader import TokenReader
from edge_stscq.server.auth.tokens import ANY_DEVICE, Token, TokenStore, how_to_create
from edge_stscq.server.front.address import address_key, client_address
from edge_stscq.server.settings import ServerSettings
from edge_stscq.server.storage.database import sibling_path

FAILURES_PER_MINUTE = 60
"""Requests without a valid token that one address may make before it is answered 429."""
REALM = 'Bearer realm="edge-stscq"'


class BearerScheme(SecurityBase):
    """Reads the Authorization header, or what stands for it on a WebSocket; documents it in OpenAPI."""

    def __init__(self) -> None:
        self.scheme_name = "token"
        self.model = HTTPBearer(bearerFormat="stscq_<id>_<secret>", description="made by: edge-stscq token create")

    async def __call__(self, request: HTTPConnection) -> str:
        return request.headers.get("authorization", "") or _subprotocol_token(request)


BEARER = BearerScheme()


def tokens_path(settings: ServerSettings) -> Path:
    """File of the tokens: the one that is named, or tokens.db beside the store."""
    return settings.tokens or sibling_path(settings.store, "tokens.db")


def open_tokens(settings: ServerSettings) -> TokenStore:
    """The tokens of this server.

    Raises:
        EdgeError: other machines can reach its host and it has no valid token, or the file is unusable.
    """
    return open_tokens_at(tokens_path(settings), settings.host)


def open_tokens_at(path: Path, host: str) -> TokenStore:
    """The tokens in a file, of a server that listens on `host`; errors as `open_tokens`."""
    public = not is_loopback(host)
    if public and not path.exists():
        raise _no_token(path, host)
    tokens = TokenStore(path, create=not public)
    if public and not any(token.is_valid for token in tokens.all()):
        tokens.close()
        raise _no_token(path, host)
    return tokens


def _no_token(path: Path, host: str) -> EdgeError:
    return EdgeError(
        f"{host} can be reached by other machines and there is no valid token; "
        f"make one with: {how_to_create(path)} (or keep --host 127.0.0.1)"
    )


class Allowances(Protocol):
    """Bounds of what a principal may ask for, as `ServerSettings` has them."""

    @property
    def requests_per_minute(self) -> float: ...
    @property
    def bytes_per_minute(self) -> int: ...
    @property
    def max_body_bytes(self) -> int: ...
    @property
    def body_seconds(self) -> float: ...


@dataclass(frozen=True, slots=True)
class Principal:
    """Authenticated client: `id` and `owner` are its token's; `device` may be `*`."""

    id: str
    device: str
    owner: str

    @property
    def only_device(self) -> str | None:
        """The device it is bound to, if it is."""
        return None if self.device == ANY_DEVICE else self.device

    @property
    def key(self) -> str:
        """Whose allowance it uses: its device's, or that of a token for every device."""
        return self.only_device or self.id

    def check_device(self, device: str) -> None:
        """Raise `HTTPException` 403 unless faces of `device` may be touched."""
        if self.only_device not in (None, device):
            raise _forbidden(f"this token is of device {self.device} and not of {device}")


class Guard:
    """Authenticates requests by their tokens and holds each principal to its rate limits."""

    def __init__(self, settings: Allowances, tokens: TokenStore) -> None:
        self._settings, self._tokens = settings, TokenReader(tokens)
        self._requests = RateLimiter(settings.requests_per_minute)
        self._bytes = RateLimiter(settings.bytes_per_minute)
        self._failures = RateLimiter(FAILURES_PER_MINUTE)

    def require(self, *scopes: Scope) -> Callable[..., Awaitable[Principal]]:
        """A dependency of a route: a principal with one of `scopes`, or an answer of 401, 403 or 429."""
        documented = [*scopes] if len(scopes) == 1 else []  # a list would ask for all of them

        async def guard(request: HTTPConnection, header: str = Security(BEARER, scopes=documented)) -> Principal:
            return await self._authorize(request, header, scopes)

        return guard

    async def authorize(self, request: HTTPConnection, *scopes: Scope) -> Principal:
        """The principal of a request, outside of FastAPI's dependencies.

        Raises:
            HTTPException: 401, 403 or 429.
        """
        return await self._authorize(request, await BEARER(request), scopes)

    async def _authorize(self, request: HTTPConnection, header: str, scopes: tuple[Scope, ...]) -> Principal:
        audit.annotate(request, who=None)
        token = await self._token(header)
        if token is None:
            self._refuse_stranger(request, header)
        audit.annotate(request, who=token.id, owner=token.owner)
        self._tokens.note_use(token)
        principal = Principal(token.id, token.device, token.owner)
        _raise_if_limited(request, self._requests.acquire(principal.key, 1), "requests")
        if not set(scopes) & set(token.scopes):
            needed = " or ".join(scopes)
            raise _forbidden(f"this token may {', '.join(token.scopes)}; {needed} is needed here", scopes)
        return principal

    async def still_permits(self, request: HTTPConnection, scope: Scope) -> bool:
        """True if the token of a connection that was let in holds and has `scope`; no limit can hide that.

        Raises:
            StoreError: the tokens cannot be read now.
        """
        token = await self._token(await BEARER(request))
        return token is not None and scope in token.scopes

    async def body(self, request: Request, principal: Principal, limit: int | None = None) -> bytes:
        """The request's body, counted against the principal's allowance while it arrives.

        Args:
            limit: most bytes of it; those of the settings if None.

        Raises:
            HTTPException: 429 over the allowance, 413 too large, 408 too slow.
        """
        _raise_if_limited(request, self._bytes.acquire(principal.key, 0), "bytes")
        limit = self._settings.max_body_bytes if limit is None else limit
        charge = partial(self._bytes.charge, principal.key)
        return await _read_body(request, limit, self._settings.body_seconds, charge)

    def close(self) -> None:
        self._tokens.close()

    async def _token(self, header: str) -> Token | None:
        """The valid token of a header."""
        scheme, _, text = header.partition(" ")
        return await self._tokens.find(text.strip()) if scheme.lower() == "bearer" else None

    def _refuse_stranger(self, request: HTTPConnection, header: str) -> NoReturn:
        key = address_key(client_address(request.scope))
        _raise_if_limited(request, self._failures.acquire(key, 1), "requests without a valid token")
        error = ', error="invalid_token"' if header else ""
        raise HTTPException(
            401, "a valid bearer token is needed; see: edge-stscq token create", {"WWW-Authenticate": REALM + error}
        )


def _subprotocol_token(request: HTTPConnection) -> str:
    """The token that a browser, which can set no header on a WebSocket, offers as a subprotocol `bearer.<token>`."""
    offered = (name.removeprefix("bearer.") for name in request.scope.get("subprotocols", ()) if name[:7] == "bearer.")
    return next((f"Bearer {token}" for token in offered), "")


def _raise_if_limited(request: HTTPConnection, limited: RateLimited | None, what: str) -> None:
    if limited is None:
        return
    if limited.repeated:
        audit.suppress(request)
    seconds = max(1, math.ceil(limited.seconds))
    raise HTTPException(429, f"too many {what} in a minute; try again in {seconds} s", {"Retry-After": str(seconds)})


def _forbidden(message: str, scopes: tuple[Scope, ...] = ()) -> HTTPException:
    scope = f', scope="{" ".join(scopes)}"' if scopes else ""
    return HTTPException(403, message, {"WWW-Authenticate": f'{REALM}, error="insufficient_scope"{scope}'})


async def _read_body(request: Request, limit: int, seconds: float, on_bytes: Callable[[int], None]) -> bytes:
    """Read the body with limits on size and time; a declared length may be absent or a lie.

    Nothing beyond the limit is kept.

    Args:
        on_bytes: called with the size of each piece as it arrives, also of one that is refused.

    Raises:
        HTTPException: 413 over `max_body_bytes`, 408 slower than `body_seconds`.
    """
    message = f"the body is over {limit} bytes; send less in a request"
    too_large = HTTPException(413, message, {"Connection": "close"})
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > limit:
        raise too_large
    body = bytearray()
    try:
        async with asyncio.timeout(seconds):
            async for chunk in request.stream():
                on_bytes(len(chunk))
                if len(body) + len(chunk) > limit:
                    raise too_large
                body += chunk
    except TimeoutError:
        message = f"the body took over {seconds:g} seconds to arrive"
        raise HTTPException(408, message, {"Connection": "close"}) from None
    return bytes(body)

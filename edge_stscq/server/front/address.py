"""Addresses of clients: IP addresses and nothing else, those of a proxy's clients only from proxies that are named.

Whoever sends a header writes what he likes into it. An address that a named proxy has not vouched for is therefore that
of the connection, and what is no IP address is never kept, counted by or logged.
"""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

FORWARDED_BYTES = 1024
"""Of `X-Forwarded-For`, counted from its end: that is where the nearest proxies write."""
_PREFIX = 64
"""Bits of an IPv6 address that are its network's; the rest its holder chooses freely."""


def parse_address(text: str) -> Address | None:
    """The IP address that `text` is, an IPv4 one also where it is written as IPv6; None for everything else.

    Example:
        >>> str(parse_address("::ffff:192.0.2.7"))
        '192.0.2.7'
    """
    try:
        found = ip_address(text)
    except ValueError:
        return None
    return getattr(found, "ipv4_mapped", None) or found


def client_address(scope: Scope) -> Address | None:
    """Address of a request's client; None on a Unix socket."""
    client = scope.get("client")
    return parse_address(client[0]) if client else None


def address_key(address: Address | None) -> str:
    """Key of a client for limits: its IPv4 address, its IPv6 network of 64 bits, or nothing.

    Example:
        >>> address_key(parse_address("2001:db8::1"))
        '2001:db8::/64'
    """
    if isinstance(address, IPv6Address):
        return str(IPv6Network((int(address), _PREFIX), strict=False))
    return "" if address is None else str(address)


def is_trusted(address: Address | None, proxies: Sequence[Network]) -> bool:
    """True if `address` lies in one of `proxies`."""
    return address is not None and any(address in proxy for proxy in proxies)


class TrustedProxyMiddleware:
    """Middleware that takes the client and the scheme of a request from the headers of named proxies.

    Of `X-Forwarded-For` it is the last address that is no named proxy's.
    """

    def __init__(self, app: ASGIApp, proxies: Sequence[Network]) -> None:
        self._app, self._proxies = app, proxies

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._proxies and scope["type"] in ("http", "websocket"):
            peer = client_address(scope)
            if is_trusted(peer, self._proxies):
                scope["client"] = (str(self._forwarded(scope, peer)), 0)
                if (scheme := _last(scope, b"x-forwarded-proto")) in ("http", "https"):
                    scope["scheme"] = scheme if scope["type"] == "http" else scheme.replace("http", "ws")
        await self._app(scope, receive, send)

    def _forwarded(self, scope: Scope, peer: Address | None) -> Address | None:
        client = peer
        for hop in reversed(_joined(scope, b"x-forwarded-for")[-FORWARDED_BYTES:].split(",")):
            address = parse_address(hop.strip())
            if address is None:
                break
            client = address
            if not is_trusted(address, self._proxies):
                break
        return client


def _joined(scope: Scope, name: bytes) -> str:
    return ",".join(value.decode("latin-1") for key, value in scope["headers"] if key == name)


def _last(scope: Scope, name: bytes) -> str:
    return _joined(scope, name).rpartition(",")[2].strip().lower()

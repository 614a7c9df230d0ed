"""Addresses of clients: nothing but IP addresses, from nobody but named proxies."""

from ipaddress import ip_network

import pytest

from edge_stscq.server.front.address import (
    TrustedProxyMiddleware,
    address_key,
    client_address,
    parse_address,
)


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("192.0.2.7", "192.0.2.7"), ("::ffff:192.0.2.7", "192.0.2.7"), ("2001:db8:1:2:3::4", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"), ("unknown", ""), ("A" * 100_000, ""), ("192.0.2.7:80", ""), ("", ""),
    ],
)  # fmt: skip
def test_address_key(text: str, key: str) -> None:
    assert address_key(parse_address(text)) == key


async def seen(peer: str, *headers: tuple[bytes, bytes]) -> tuple[str, str]:
    """Client and scheme of a request behind 10.0.0.0/8."""
    found = {}

    async def app(scope: dict[str, object], *_: object) -> None:
        found.update(scope)

    scope = {"type": "http", "scheme": "http", "client": (peer, 1), "headers": [*headers]}
    await TrustedProxyMiddleware(app, [ip_network("10.0.0.0/8")])(scope, None, None)
    return str(client_address(found)), found["scheme"]


@pytest.mark.anyio
async def test_forwarded_address_from_named_proxies_only() -> None:
    said = (b"x-forwarded-for", b"203.0.113.9, 198.51.100.1, 10.0.0.2"), (b"x-forwarded-proto", b"https")
    assert await seen("10.0.0.1", *said) == ("198.51.100.1", "https")
    assert await seen("192.0.2.7", *said) == ("192.0.2.7", "http")
    assert await seen("10.0.0.1") == ("10.0.0.1", "http")


@pytest.mark.anyio
@pytest.mark.parametrize("value", [b"A" * 1_000_000, b"x" * 9 + b", unknown", b"", b"\xff", b"'; DROP", b"1.2.3"])
async def test_forwarded_garbage_is_the_proxy_itself(value: bytes) -> None:
    assert await seen("10.0.0.1", (b"x-forwarded-for", value)) == ("10.0.0.1", "http")


@pytest.mark.anyio
async def test_forwarded_hops_of_several_headers_count_from_the_end() -> None:
    headers = [(b"x-forwarded-for", b"1.1.1.1"), (b"x-forwarded-for", b"garbage, 10.1.1.1")]
    assert await seen("10.0.0.1", *headers) == ("10.1.1.1", "http")

"""Requests that no client of this server sends: under a host that cannot be one, or from the page of another site.

A browser says of each request which site's page made it. A foreign page gets no answer by itself, but could learn from
the time of one, or keep the decoder busy; a link to this server's page is no such request.
"""

import re

from starlette.types import ASGIApp, Receive, Scope, Send

from edge_stscq.server.errors import error_response

_HOST = re.compile(rb"([A-Za-z0-9._-]{1,255}|\[[0-9A-Fa-f:.]{2,45}\])(:[0-9]{1,5})?")
_OWN = frozenset({b"same-origin", b"none"})
"""Values of `Sec-Fetch-Site` of requests that this server's page, or the user, has made."""


class RequestChecks:
    """Middleware that answers them 400 and 403."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        app: ASGIApp = self._app
        if scope["type"] in ("http", "websocket"):
            hosts, site, mode = [], b"none", b""
            for name, value in scope["headers"]:
                if name == b"host":
                    hosts.append(value)
                elif name == b"sec-fetch-site":
                    site = value
                elif name == b"sec-fetch-mode":
                    mode = value
            if len(hosts) > 1 or not all(map(_HOST.fullmatch, hosts)):
                app = error_response(400, "the Host header is not the name of a host", {"Connection": "close"})
            elif site not in _OWN and not (scope["type"] == "http" and scope["path"] == "/" and mode == b"navigate"):
                app = error_response(403, "this server answers its own page and programs, not another site's page")
        await app(scope, receive, send)

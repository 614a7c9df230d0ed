"""Things that a machine has beside packages: a model, a bundle, the face detector, cameras, a server."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edge_stscq.cli.options import BUNDLE, MODEL

if TYPE_CHECKING:
    import ssl

SECONDS = 2.0
"""Longest wait for a server."""


@dataclass(frozen=True)
class Finding:
    """One thing that was looked for; `detail` says where it is, or what brings it."""

    what: str
    found: bool
    detail: str


def look_around(url: str, tls: "ssl.SSLContext | None" = None) -> list[Finding]:
    """Look for everything; nothing is opened, loaded or fetched."""
    return [_release("model", str(MODEL)), _release("bundle", str(BUNDLE)), _detector(), _cameras(), _server(url, tls)]


def _release(what: str, name: str) -> Finding:
    from edge_stscq.errors import EdgeError
    from edge_stscq.hub import load_index
    from edge_stscq.hub.names import find_here

    try:
        here = find_here(name, load_index().find(name))
    except EdgeError as error:
        return Finding(what, False, str(error))
    return Finding(what, here is not None, str(here or f"edge-stscq pull {name} --from URL|DIR"))


def _detector() -> Finding:
    from edge_stscq.device.network import network_path
    from edge_stscq.errors import EdgeError

    try:
        return Finding("detector", True, str(network_path()))
    except EdgeError as error:
        return Finding("detector", False, str(error))


def _cameras() -> Finding:
    if not sys.platform.startswith("linux"):
        return Finding("camera", False, "not looked for on this system; try: edge-stscq capture --source 0 -o out.stsq")
    found = sorted(str(path) for path in Path("/dev").glob("video*"))
    return Finding("camera", bool(found), ", ".join(found) or "none at /dev/video*; a picture or a video will do")


def _server(url: str, tls: "ssl.SSLContext | None") -> Finding:
    import httpx2

    try:
        answer = httpx2.get(f"{url.rstrip('/')}/ready", timeout=SECONDS, verify=True if tls is None else tls)
    except (httpx2.HTTPError, httpx2.InvalidURL) as error:
        reason = str(error) or type(error).__name__
        remedy = "start one: edge-stscq serve"
        if "CERTIFICATE" in reason:
            remedy = "give the authority of its certificate with --ca, or --cert and --key if it asks for one"
        return Finding("server", False, f"{url}: {reason}; {remedy}")
    state = "ready" if answer.is_success else f"{answer.status_code} {answer.reason_phrase}"
    return Finding("server", answer.is_success, f"{url}: {state}")

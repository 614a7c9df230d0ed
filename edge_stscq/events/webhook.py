"""Messages to a web address, signed as Standard Webhooks are (https://www.standardwebhooks.com).

    webhook-id: 5f1c...                       the same however often a message is sent
    webhook-timestamp: 1767225600             seconds since 1970 UTC, of this try
    webhook-signature: v1,<base64 of HMAC-SHA256 over "<id>.<timestamp>.<body>">

A secret that begins with `whsec_` is base64, as the libraries of that standard have it; another one is taken as it is.
"""

import base64
import binascii
import hashlib
import hmac
import json
import random
import secrets
import threading
import time
from collections import deque
from urllib.parse import urlsplit

import httpx2
from pydantic import SecretStr

from edge_stscq import __version__
from edge_stscq.errors import EdgeError
from edge_stscq.events.notices import Notices
from edge_stscq.events.publisher import Counts, Message
from edge_stscq.protocol import PASSING

MOST_WAITING = 1000
"""Messages that wait; of more, the oldest are lost."""
_TIMEOUT = 10.0
"""Seconds without progress before a try has failed."""
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 120.0
"""Seconds between two tries, doubled with each, give or take half."""
_LAST_SECONDS = 2.0
"""Seconds that what waits has to leave when everything ends."""
_PREFIX = "whsec_"


def key_of(secret: SecretStr) -> bytes:
    """Bytes that a secret signs with.

    Raises:
        EdgeError: it begins with `whsec_` and is not base64.
    """
    text = secret.get_secret_value()
    if not text.startswith(_PREFIX):
        return text.encode()
    try:
        return base64.b64decode(text.removeprefix(_PREFIX), validate=True)
    except binascii.Error:
        raise EdgeError(f"the secret of a webhook begins with {_PREFIX} and is not base64; copy it again") from None


def signature(key: bytes, identity: str, timestamp: int, body: bytes) -> str:
    """Value of the signature's header."""
    digest = hmac.new(key, f"{identity}.{timestamp}.".encode() + body, hashlib.sha256).digest()
    return "v1," + base64.b64encode(digest).decode()


class WebhookPublisher(threading.Thread):
    """Publisher to one address, in order: a message is tried until it is taken or refused.

    A redirection is a refusal: the address in the settings is the one that gets the events.

    Args:
        number: tells this address from others of the same host, in metrics and notices.
        most_waiting: see `MOST_WAITING`.
        transport: how requests travel; the network if None.
        first_pause: see `_FIRST_PAUSE`.

    Raises:
        EdgeError: as `key_of`.
    """

    def __init__(
        self, url: str, secret: SecretStr, notices: Notices, number: int = 1, *, most_waiting: int = MOST_WAITING,
        transport: httpx2.BaseTransport | None = None, first_pause: float = _FIRST_PAUSE,
    ) -> None:  # fmt: skip
        self._url, self._key, self._notices, self._first_pause = url, key_of(secret), notices, first_pause
        parts = urlsplit(url)
        super().__init__(name=f"webhook {number} {parts.hostname}", daemon=True)
        self.counts = Counts()
        self._http = httpx2.Client(timeout=_TIMEOUT, transport=transport, follow_redirects=False)
        self._messages: deque[tuple[str, bytes]] = deque()
        self._most, self._changed, self._ends_at = most_waiting, threading.Condition(), float("inf")

    def publish(self, message: Message) -> None:
        with self._changed:
            if len(self._messages) >= self._most:
                self._messages.popleft()
                self.counts.lost += 1
            self._messages.append((secrets.token_hex(16), json.dumps(message).encode()))
            self._changed.notify()

    def close(self) -> None:
        with self._changed:
            self._ends_at = time.monotonic() + _LAST_SECONDS
            self._changed.notify()
        self.join(_LAST_SECONDS)
        self.counts.lost += len(self._messages)

    def run(self) -> None:
        pause = self._first_pause
        with self._http:
            while (first := self._first()) is not None:
                trouble, again = self._send(*first)
                if trouble is None:
                    self._notices.end(self.name)
                else:
                    self._notices.begin(self.name, trouble)
                if not again:
                    pause = self._first_pause
                    self._forget(first, taken=trouble is None)
                    continue
                with self._changed:
                    if self._ending or self._changed.wait_for(lambda: self._ending, pause * random.uniform(0.5, 1.5)):
                        return
                pause = min(2 * pause, _LONGEST_PAUSE)

    @property
    def _ending(self) -> bool:
        return self._ends_at < float("inf")

    def _first(self) -> tuple[str, bytes] | None:
        """The message whose turn it is; None if everything ends."""
        with self._changed:
            self._changed.wait_for(lambda: bool(self._messages) or self._ending)
            return self._messages[0] if self._messages and time.monotonic() < self._ends_at else None

    def _forget(self, message: tuple[str, bytes], taken: bool) -> None:
        with self._changed:
            if self._messages and self._messages[0] is message:
                self._messages.popleft()
            else:  # it was pushed out and given up while it was being sent
                self.counts.lost -= 1
            self.counts.sent += taken
            self.counts.lost += not taken

    def _send(self, identity: str, body: bytes) -> tuple[str | None, bool]:
        """One try: what was wrong, if anything, and True if another one may help."""
        timestamp = int(time.time())
        headers = {
            "Content-Type": "application/json", "User-Agent": f"edge-stscq/{__version__}", "webhook-id": identity,
            "webhook-timestamp": str(timestamp),
            "webhook-signature": signature(self._key, identity, timestamp, body),
        }  # fmt: skip
        try:
            with self._http.stream("POST", self._url, content=body, headers=headers) as response:
                status = response.status_code
        except (httpx2.TransportError, UnicodeError) as error:
            return f"cannot be reached ({str(error) or type(error).__name__}); it is tried again", True
        finally:
            self._http.cookies.clear()
        if 200 <= status < 300:
            return None, False
        if status in PASSING or status >= 500:
            return f"answered {status}; it is tried again", True
        if 300 <= status < 400:
            return f"answered {status}; redirections are not followed, give the address that this one leads to", False
        return f"refused events with {status}; check the address and the secret", False

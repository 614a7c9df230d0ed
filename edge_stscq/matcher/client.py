"""A client of the matcher, for the command line and for programs."""

import json
import ssl
from typing import Any

import httpx2
import numpy as np
from numpy.typing import NDArray

from edge_stscq._local_servers import local_token
from edge_stscq.errors import EdgeError

SECONDS = 30.0


class MatcherClient:
    """Asks a matcher, one request a call.

    Args:
        url: its address.
        token: of a scope that the calls need; None is that of a matcher of this user on this machine.
        tls: from `client_context`.
        transport: how requests travel; the network if None.

    Example:
        >>> client = MatcherClient("http://127.0.0.1:8378")
        >>> client.match(embedding, model_id)["hits"]
    """

    def __init__(
        self, url: str, *, token: str | None = None, tls: ssl.SSLContext | None = None,
        transport: httpx2.BaseTransport | None = None,
    ) -> None:  # fmt: skip
        self._url, self._token, self._transport = url.rstrip("/"), token, transport
        self._verify: ssl.SSLContext | bool = True if tls is None else tls

    def match(self, embedding: NDArray[np.float32], model_id: bytes, **how: object) -> dict[str, Any]:
        """The templates most like an embedding.

        Args:
            how: `record` or `face` for one alone, `device`, `limit`.

        Raises:
            EdgeError: the matcher does not answer, or refuses it.
        """
        return self._ask("match", _embedded(embedding, model_id) | {name: one for name, one in how.items() if one})

    def enroll(self, record: str, embedding: NDArray[np.float32], model_id: bytes) -> dict[str, Any]:
        """Enroll a record; errors as `match`."""
        return self._ask("enroll", _embedded(embedding, model_id) | {"record": record})

    def renew(self, record: str, embedding: NDArray[np.float32], model_id: bytes) -> dict[str, Any]:
        """Renew a record; errors as `match`."""
        return self._ask("renew", _embedded(embedding, model_id) | {"record": record})

    def revoke(self, record: str) -> dict[str, Any]:
        """Revoke a record; errors as `match`."""
        return self._ask("revoke", {"record": record})

    def _ask(self, what: str, body: dict[str, object]) -> dict[str, Any]:
        token = self._token or local_token(self._url)
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        try:
            with httpx2.Client(timeout=SECONDS, transport=self._transport, verify=self._verify) as http:
                answer = http.post(f"{self._url}/v1/{what}", json=body, headers=headers)
                found = answer.json()
        except (httpx2.TransportError, httpx2.InvalidURL, UnicodeError) as error:
            raise EdgeError(
                f"no matcher answers at {self._url} ({str(error) or type(error).__name__}); "
                "start one with: edge-stscq matcher serve"
            ) from None
        except json.JSONDecodeError:
            found = None
        if answer.status_code != 200 or not isinstance(found, dict):
            told = found.get("error") if isinstance(found, dict) else None
            line = told or f"{self._url} does not answer as a matcher; check --url"
            raise EdgeError(f"{line} ({answer.status_code})")
        return found


def _embedded(embedding: NDArray[np.float32], model_id: bytes) -> dict[str, object]:
    return {"embedding": [float(value) for value in embedding], "model_id": model_id.hex()}

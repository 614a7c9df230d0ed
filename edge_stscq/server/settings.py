"""What an operator chooses, as one frozen model.

The server answers this machine alone unless told otherwise: a host that other machines can reach is refused without a
bearer token, because what it stores is faces.
"""

from ipaddress import ip_address
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator

from edge_stscq.errors import EdgeError

MIN_TOKEN = 16
"""Fewest characters of a bearer token; shorter ones are guessed."""


def is_loopback(host: str) -> bool:
    """Whether `host` is a name or address that only this machine can reach."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class ServerSettings(BaseModel):
    """Everything `create_app` needs.

    Raises:
        EdgeError: a public host without a token, or a token that is short or has spaces.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: Path = Field(description="folder of the model whose frames are accepted")
    store: Path = Field(description="SQLite file of the accepted frames")
    host: str = "127.0.0.1"
    port: int = Field(default=8377, ge=0, le=65535, description="0 takes a free port")
    device: Literal["cpu", "cuda"] = "cpu"
    token: SecretStr | None = Field(default=None, description="bearer token asked on every /v1 route")
    max_body_bytes: int = Field(default=1 << 20, ge=64)
    max_frames: int = Field(default=1024, ge=1, description="frames in one request")
    body_seconds: float = Field(default=30, gt=0, description="a body that arrives slower than this is dropped")
    max_batch: int = Field(default=32, ge=1, description="faces decoded at once")
    batch_delay: float = Field(default=0.005, ge=0, description="seconds the first face of a batch waits for others")
    queue_size: int = Field(default=256, ge=1, description="faces that may wait; more are answered 503")

    @model_validator(mode="after")
    def _guard(self) -> "ServerSettings":
        if self.token is None:
            if not is_loopback(self.host):
                raise EdgeError(
                    f"{self.host} can be reached by other machines and no token is set; "
                    "set EDGE_STSCQ_TOKEN (or --token), or keep --host 127.0.0.1"
                )
        elif not self.token.get_secret_value().isascii() or any(c.isspace() for c in self.token.get_secret_value()):
            raise EdgeError("the token has spaces or non-ASCII characters; make one with: openssl rand -hex 32")
        elif len(self.token.get_secret_value()) < MIN_TOKEN:
            raise EdgeError(f"the token is shorter than {MIN_TOKEN} characters; make one with: openssl rand -hex 32")
        return self

"""What an operator chooses, as one frozen model.

The server answers this machine alone unless told otherwise; what another host needs, `guard` knows.
"""

from ipaddress import ip_address
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


def is_loopback(host: str) -> bool:
    """Whether `host` is a name or address that only this machine can reach."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class ServerSettings(BaseModel):
    """Everything `create_app` needs."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: Path = Field(description="folder of the model whose frames are accepted")
    store: Path = Field(description="SQLite file of the accepted frames")
    host: str = "127.0.0.1"
    port: int = Field(default=8377, ge=0, le=65535, description="0 takes a free port")
    device: Literal["cpu", "cuda"] = "cpu"
    tokens: Path | None = Field(
        default=None, description="SQLite file of the tokens; tokens.db beside the store if None"
    )
    requests_per_minute: float = Field(default=1200, ge=1, description="of one device")
    bytes_per_minute: float = Field(default=8 << 20, gt=0, description="bodies of one device")
    max_body_bytes: int = Field(default=1 << 20, ge=64)
    max_frames: int = Field(default=1024, ge=1, description="frames in one request")
    body_seconds: float = Field(default=30, gt=0, description="a body that arrives slower than this is dropped")
    max_batch: int = Field(default=32, ge=1, description="faces decoded at once")
    batch_delay: float = Field(default=0.005, ge=0, description="seconds the first face of a batch waits for others")
    queue_size: int = Field(default=256, ge=1, description="faces that may wait; more are answered 503")
    match_faces: int = Field(default=100_000, ge=1, description="newest faces that can be found by example")
    live_clients: int = Field(default=64, ge=1, description="clients that may follow the feed at once")

    @property
    def tokens_path(self) -> Path:
        return self.tokens or self.store.with_name("tokens.db")

"""Settings of a server, as one frozen model.

The server answers this machine alone unless told otherwise; what another host needs, `guard` knows.
"""

from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field


def is_loopback(host: str) -> bool:
    """True if `host` is a name or address that only this machine can reach."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _several(given: object) -> object:
    return (given,) if isinstance(given, str | Path) else given


class ServerSettings(BaseModel):
    """Everything `create_app` needs."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: Annotated[tuple[Path, ...], BeforeValidator(_several)] = Field(
        min_length=1, description="folders of the models whose frames are accepted; one may stand alone"
    )
    store: Path | str = Field(description="where the accepted frames are: a path or a URL, see `database.store_url`")
    host: str = "127.0.0.1"
    port: int = Field(default=8377, ge=0, le=65535, description="0 takes a free port")
    device: Literal["cpu", "cuda"] = "cpu"
    tokens: Path | None = Field(
        default=None, description="SQLite file of the tokens; tokens.db `beside` the store if None"
    )
    requests_per_minute: float = Field(default=1200, ge=1, description="of one device")
    bytes_per_minute: float = Field(default=8 << 20, gt=0, description="bodies of one device")
    max_body_bytes: int = Field(default=1 << 20, ge=64)
    max_frames: int = Field(default=1024, ge=1, description="frames in one request")
    body_seconds: float = Field(default=30, gt=0, description="a body that arrives slower than this is dropped")
    max_batch: int | None = Field(
        default=None, ge=1, description="faces decoded at once; what suits the device if None"
    )
    batch_delay: float = Field(default=0.005, ge=0, description="seconds the first face of a batch waits for others")
    queue_size: int = Field(default=256, ge=1, description="faces that may wait; more are answered 503")
    deadline: float = Field(default=2, gt=0, description="seconds until the decoder must have begun a face, else 503")
    cache_bytes: int = Field(default=64 << 20, ge=0, description="decoded faces that are kept in memory; 0 keeps none")
    match_faces: int = Field(default=100_000, ge=1, description="newest faces that can be found by example")
    live_clients: int = Field(default=64, ge=1, description="clients that may follow the feed at once")

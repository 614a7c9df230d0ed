"""Settings of a server: one frozen model, from arguments, the environment and a TOML file.

    model = ["models/face64"]       # a folder, or a list of folders
    store = "faces.db"
    cache_bytes = "128MiB"

A variable `EDGE_STSCQ_CACHE_BYTES` overrides the file, and what the caller gives overrides both. Sizes are numbers of
bytes, or texts such as "64MiB". The server answers this machine alone unless told otherwise; what another host needs,
`guard` knows.
"""

import os
import tomllib
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, BeforeValidator, ByteSize, ConfigDict, Field, ValidationError
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from edge_stscq.errors import EdgeError

PREFIX = "EDGE_STSCQ_"
"""Of environment variables."""


def _several(given: object) -> object:
    if isinstance(given, str):
        return tuple(given.split(os.pathsep))
    return (given,) if isinstance(given, Path) else given


def _listed(given: object) -> object:
    return tuple(part.strip() for part in given.split(",")) if isinstance(given, str) else given


class ServerSettings(BaseModel):
    """Everything `create_app` needs; `edge_stscq.server.Settings` is this.

    Example:
        >>> settings = Settings(model=(Path("models/face64"),), store="faces.db", port=0)
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: Annotated[tuple[Path, ...], NoDecode, BeforeValidator(_several)] = Field(
        min_length=1, description="folders of the models whose frames are accepted; one may stand alone"
    )
    store: Path | str = Field(
        default="faces.db", description="where the accepted frames are: a path or a URL, see `database.store_url`"
    )
    seal: str | None = Field(
        default=None,
        description="of a sealed store: its secret, file:PATH, command:PROGRAM or keyring:SERVICE/USER",
    )
    seal_keys: Path | None = Field(
        default=None, description="key file of a sealed store; keys.db beside the store if None"
    )
    host: str = "127.0.0.1"
    port: int = Field(default=8377, ge=0, le=65535, description="0 takes a free port")
    device: Literal["cpu", "cuda"] = "cpu"
    decoder_user: str | None = Field(
        default=None, description="whose rights the decoder has, where the server is started as root"
    )
    tokens: Path | None = Field(
        default=None, description="SQLite file of the tokens; tokens.db beside the store if None"
    )
    trusted_proxies: Annotated[tuple[IPv4Network | IPv6Network, ...], NoDecode, BeforeValidator(_listed)] = Field(
        default=(), description="addresses or networks whose X-Forwarded-For and -Proto are believed"
    )
    requests_per_minute: float = Field(default=1200, ge=1, description="of one device")
    bytes_per_minute: ByteSize = Field(default=ByteSize(8 << 20), ge=1, description="bodies of one device")
    max_body_bytes: ByteSize = Field(default=ByteSize(1 << 20), ge=64)
    bundle: Path | None = Field(
        default=None, description="a model's bundle, by which to code uploaded pictures; none are taken without it"
    )
    max_picture_bytes: ByteSize = Field(default=ByteSize(8 << 20), ge=64, description="largest uploaded picture")
    max_frames: int = Field(default=1024, ge=1, description="frames in one request")
    body_seconds: float = Field(default=30, gt=0, description="a body that arrives slower than this is dropped")
    max_batch: int | None = Field(
        default=None, ge=1, description="faces decoded at once; what suits the device if None"
    )
    batch_delay: float = Field(default=0.005, ge=0, description="seconds the first face of a batch waits for others")
    queue_size: int = Field(default=256, ge=1, description="faces that may wait; more are answered 503")
    deadline: float = Field(default=2, gt=0, description="seconds until the decoder must have begun a face, else 503")
    cache_bytes: ByteSize = Field(
        default=ByteSize(64 << 20), ge=0, description="decoded faces that are kept in memory; 0 keeps none"
    )
    match_index: Literal["auto", "memory", "pgvector"] = Field(
        default="auto",
        description="where faces are found by example; auto is in a PostgreSQL that has the extension vector, else in "
        "memory",
    )
    match_faces: int | None = Field(
        default=None, ge=1, description="newest faces that can be found by example; all if None, at 1.1 KB each"
    )
    retain: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_listed)] = Field(
        default=(), description="periods after which faces are erased: 30d, NAME=48h for one device; h, d, w or forever"
    )
    visit_gap: float = Field(
        default=60, gt=0, le=86_400,
        description="seconds without a face after which the same device or track sees another visit",
    )  # fmt: skip
    persons: bool = Field(default=False, description="group faces into visits, and these into persons, as they come")
    watch_list: bool = Field(
        default=False, description="keep only faces of enrolled people, and of those who may be; count the others"
    )
    webhook: str | None = Field(default=None, description="http(s) address that is told of visits")
    webhook_secret: Path | None = Field(default=None, description="file with the secret that signs what it gets")
    mqtt: str | None = Field(
        default=None, description="broker that is told of visits: mqtt(s)://[USER@]HOST[:PORT][/PREFIX]"
    )
    mqtt_password: Path | None = Field(default=None, description="file with the broker's password")
    mqtt_ca: Path | None = Field(default=None, description="PEM authorities of the broker's certificate")
    live_clients: int = Field(default=64, ge=1, description="clients that may follow the feed at once")


def load_settings(config: Path | None = None, **given: Any) -> ServerSettings:
    """Settings from `given`, then the environment, then the TOML file at `config`, then the defaults.

    Raises:
        EdgeError: the file cannot be read, or a value is missing, unknown or out of range.

    Example:
        >>> settings = load_settings(Path("server.toml"), port=0)
    """

    class Sources(ServerSettings, BaseSettings):
        model_config = SettingsConfigDict(env_prefix=PREFIX, env_ignore_empty=True, frozen=True, extra="forbid")

        @classmethod
        def settings_customise_sources(
            cls, settings_cls: type[BaseSettings], init_settings: PydanticBaseSettingsSource,
            env_settings: PydanticBaseSettingsSource, dotenv_settings: PydanticBaseSettingsSource,
            file_secret_settings: PydanticBaseSettingsSource,
        ) -> tuple[PydanticBaseSettingsSource, ...]:  # fmt: skip
            file = () if config is None else (TomlConfigSettingsSource(settings_cls, config),)
            return init_settings, env_settings, *file

    if config is not None:
        _check(config)
    try:
        return ServerSettings(**Sources(**given).model_dump())
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(map(str, first["loc"]))
        places = f"an option of `serve`, {PREFIX}{name.upper()}, or {config or 'a TOML file (--config)'}"
        raise EdgeError(f"setting {name}: {first['msg'].lower()}; it comes from {places}") from None


def _check(config: Path) -> None:
    """Refuse a file that is absent or no TOML, and one that others may change or read a password in.

    pydantic-settings passes over the first and does not name the second.
    """
    try:
        found = tomllib.loads(config.read_text("utf-8"))
        mode = config.stat().st_mode
    except OSError as error:
        raise EdgeError(f"cannot read the settings {config}: {error.strerror}; choose another --config") from None
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise EdgeError(f"{config} is not TOML: {error}; write lines such as port = 8377") from None
    secret = urlsplit(str(found.get("store", ""))).password is not None
    if os.name == "posix" and mode & (0o077 if secret else 0o022):
        what = "read the password in" if secret else "change"
        raise EdgeError(f"others may {what} the settings {config} (mode {mode & 0o777:04o}); run: chmod 600 {config}")

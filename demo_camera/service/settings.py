"""Settings of `edge-stscq camera run`: one frozen model, from a TOML file and the environment.

A variable `EDGE_STSCQ_CAMERA_SERVER__URL` overrides `url` in `[server]`. Files that a setting names are looked at while
it is validated, so that everything that is wrong is known at once, and before a camera is opened.
"""

from collections import Counter
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from demo_camera.service.files import as_value_error, private, readable, writable_folder
from demo_camera.sources import Region
from edge_stscq import _released
from edge_stscq._limits import MAX_LAYERS
from edge_stscq._local_servers import is_loopback
from edge_stscq._secrets import read_secret
from edge_stscq.client.byte_budget import parse_budget, parse_size
from edge_stscq.client.spool import LEAST_BYTES
from edge_stscq.device.quality import Limits
from edge_stscq.errors import EdgeError
from edge_stscq.protocol import DEVICE_NAME

PREFIX = "EDGE_STSCQ_CAMERA_"
"""Of environment variables; two underscores lead into a table."""

ReadableFile = Annotated[Path, AfterValidator(readable)]
SecretFile = Annotated[Path, AfterValidator(private)]
"""A file with one secret, that its owner alone reads."""


def _size(text: str) -> str:
    with as_value_error():
        if parse_size(text) < LEAST_BYTES:
            raise EdgeError(f"a spool of {text} is too small; give it {LEAST_BYTES // 1024}KiB or more")
    return text


def _secret_source(text: str) -> str:
    with as_value_error():
        read_secret(text)
    return text


def _budget(text: str) -> str:
    with as_value_error():
        parse_budget(text)
    return text


def _region(text: str) -> str:
    with as_value_error():
        Region.parse(text)
    return text


def _http_url(text: str) -> str:
    try:
        parts = urlsplit(text)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        good = False
    if not good:
        raise ValueError("not an address; write http:// or https://, a host and perhaps a port and a path")
    if parts.username or parts.password:
        raise ValueError("a user or password in an address would be logged; put the secret into a file")
    return text


def _user_of(source: str) -> str | None:
    try:
        return urlsplit(source).username if "://" in source else None
    except ValueError:
        return None


HttpUrl = Annotated[str, AfterValidator(_http_url)]


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class CameraSettings(_Table):
    """`[[camera]]`: one camera."""

    name: str = Field(pattern=f"^{DEVICE_NAME}$", description="name of the camera and its device", examples=["door"])
    source: SecretStr = Field(
        min_length=1, description="number, device, address, video, picture or folder", examples=["rtsp://camera/stream"]
    )
    password_file: SecretFile | None = Field(default=None, description="file with the password of the source's user")
    rotate: Literal[0, 90, 180, 270] = Field(default=0, description="degrees clockwise until it is upright")
    region: Annotated[str, AfterValidator(_region)] | None = Field(
        default=None, description="part that is looked at: x,y,width,height in pixels or percent",
        examples=["25%,0,50%,100%"],
    )  # fmt: skip
    max_rate: float | None = Field(default=None, gt=0, description="most pictures a second", examples=[10])
    limits: Limits = Field(default=Limits(), description="limits of the gate that differ from the usual ones")
    layers: int | None = Field(default=None, ge=1, le=MAX_LAYERS, description="layers that travel; all if absent")
    best_after: float = Field(
        default=10, gt=0, le=86400, description="seconds after which the best face of a visit goes before its end"
    )
    margin: float = Field(
        default=15, gt=0, le=100, description="points of quality by which a later face is better, to be sent as well"
    )
    faces: int | None = Field(default=None, ge=1, description="most faces of one picture; all if absent")
    every: int = Field(default=1, ge=1, description="look for faces in every n-th picture while visits are steady")
    follow: bool = Field(default=False, description="go on with pictures that come into the folder")
    recursive: bool = Field(default=False, description="read the folders in the folder, too")
    timeout: float = Field(default=10, gt=0, le=3600, description="seconds to wait for a camera and its next picture")
    token_file: SecretFile | None = Field(default=None, description="this camera's token, in place of the server's")

    @model_validator(mode="after")
    def _user(self) -> "CameraSettings":
        if self.password_file is not None and not _user_of(self.source.get_secret_value()):
            raise ValueError("password_file needs an address with a user; write rtsp://USER@HOST/PATH")
        return self


class SpoolSettings(_Table):
    """`[spool]`: faces that no server has acknowledged, a file for each camera."""

    folder: Annotated[Path, AfterValidator(writable_folder)] = Field(
        default=Path("spool"), validate_default=True, description="folder of the spools"
    )
    size: Annotated[str, AfterValidator(_size)] = Field(
        default="64MiB", description="bound of each spool", examples=["64MiB"]
    )
    seal: Annotated[str, AfterValidator(_secret_source)] | None = Field(
        default=None, description="secret that seals them: file:PATH, command:PROGRAM or keyring:SERVICE/USER",
        examples=["file:/etc/edge-stscq/device.secret"],
    )  # fmt: skip


class ServerSettings(_Table):
    """`[server]`: takes the faces."""

    url: HttpUrl = Field(description="address", examples=["https://server:8377"])
    token_file: SecretFile | None = Field(default=None, description="token for all cameras")
    ca: ReadableFile | None = Field(default=None, description="PEM authorities of the server's certificate")
    cert: ReadableFile | None = Field(default=None, description="mutual TLS: PEM certificate of this machine")
    key: SecretFile | None = Field(default=None, description="PEM key of the certificate, without a password")
    budget: Annotated[str, AfterValidator(_budget)] | None = Field(
        default=None, description="most bytes on the link, of all cameras together", examples=["200kB/min"]
    )

    @model_validator(mode="after")
    def _pair(self) -> "ServerSettings":
        if (self.cert is None) != (self.key is None):
            raise ValueError("cert and key belong together; give both or none")
        return self


class MqttSettings(_Table):
    """`[events.mqtt]`: a broker that gets track events."""

    host: str = Field(min_length=1, description="name or address of the broker", examples=["127.0.0.1"])
    port: int | None = Field(default=None, ge=1, le=65535, description="1883, or 8883 with TLS, if absent")
    username: str | None = None
    password_file: SecretFile | None = None
    tls: bool = False
    ca: ReadableFile | None = Field(default=None, description="PEM authorities of the broker's certificate")
    prefix: str = Field(default="edge-stscq", pattern=r"^[^+#\x00/]+(/[^+#\x00/]+)*$", description="of topics")

    @model_validator(mode="after")
    def _credentials(self) -> "MqttSettings":
        if self.password_file is not None and self.username is None:
            raise ValueError("a password needs a user; add username = ...")
        if self.password_file is not None and not self.tls and not is_loopback(self.host):
            raise ValueError("the password would travel in the clear; set tls = true")
        if self.ca is not None and not self.tls:
            raise ValueError("ca is of no use without TLS; set tls = true")
        return self


class WebhookSettings(_Table):
    """`[[events.webhook]]`: an address that track events are posted to."""

    url: HttpUrl = Field(description="address", examples=["https://home.example/hooks/faces"])
    secret_file: SecretFile = Field(description="file with the secret of the signatures")


class EventSettings(_Table):
    """`[events]`."""

    mqtt: MqttSettings | None = None
    webhook: tuple[WebhookSettings, ...] = ()


class MetricsSettings(_Table):
    """`[metrics]`: `/metrics`, `/health` and `/ready`."""

    host: str = "127.0.0.1"
    port: int = Field(default=9464, ge=0, le=65535, description="0 takes a free port")
    public: bool = Field(default=False, description="answer other machines, too")
    silent_after: float = Field(default=60, gt=0, description="seconds without a picture: not ready any more")

    @model_validator(mode="after")
    def _local(self) -> "MetricsSettings":
        if not self.public and not is_loopback(self.host):
            raise ValueError("other machines could reach this host; take 127.0.0.1, or set public = true")
        return self


class ProtectedSettings(_Table):
    """`[protected]`: a protected template of each face is kept and sent, and no token."""

    secret: str = Field(
        min_length=1, description="of the templates' keys: file:PATH, command:... or keyring:...",
        examples=["file:/etc/edge-stscq/matcher.secret"],
    )  # fmt: skip
    keys: Path = Field(description="key store of all cameras; made if it is not there")


class Settings(BaseSettings):
    """Everything that `edge-stscq camera run` needs."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_nested_delimiter="__", env_ignore_empty=True, frozen=True, extra="forbid",
        hide_input_in_errors=True,
    )  # fmt: skip

    bundle: str = Field(default=_released.BUNDLE, description="bundle folder, or the name of a released bundle")
    trusted_key: ReadableFile | None = Field(default=None, description="PEM key; a bundle not signed by it is refused")
    threads: int = Field(default=1, ge=1, le=256, description="threads of the encoder's runtime")
    camera: tuple[CameraSettings, ...] = Field(description="one or more, each with name and source")
    spool: SpoolSettings = Field(default={}, validate_default=True)
    server: ServerSettings | None = None
    protected: ProtectedSettings | None = None
    events: EventSettings = EventSettings()
    metrics: MetricsSettings | None = None

    @field_validator("camera")
    @classmethod
    def _one_name_each(cls, cameras: tuple[CameraSettings, ...]) -> tuple[CameraSettings, ...]:
        if not cameras:
            raise ValueError("there is no camera; add [[camera]] with name and source")
        for name, count in Counter(camera.name.lower() for camera in cameras).items():
            if count > 1:
                raise ValueError(f"{count} cameras are named {name}; give each a name of its own")
        return cameras

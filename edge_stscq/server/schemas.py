"""What the routes answer, as JSON."""

from datetime import UTC, datetime

from pydantic import BaseModel, ConfigDict, Field

from edge_stscq.codec.config import CodecConfig
from edge_stscq.server.decode_service import DecodeService
from edge_stscq.server.policy import POLICIES
from edge_stscq.server.store import StoredFace
from edge_stscq.stream.face import MAX_LAYERS


class _Answer(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Receipt(_Answer):
    """Acknowledges a request: every frame in it is on disk."""

    device: str
    first: int = Field(description="sequence number of the first frame")
    count: int = Field(description="frames in the request")
    stored: int = Field(description="new faces")
    extended: int = Field(description="faces that gained layers")
    duplicate: int = Field(description="frames that were known already")


class FaceInfo(_Answer):
    """One stored face."""

    id: str
    device: str
    sequence: int
    layers: int = Field(ge=1, le=MAX_LAYERS)
    bytes: int = Field(description="size of the frame")
    model_id: str
    received: datetime
    revision: int = Field(description="orders changes; raised when the face gains layers")

    @classmethod
    def of(cls, face: StoredFace) -> "FaceInfo":
        return cls(
            id=face.id, device=face.device, sequence=face.sequence, layers=face.layers, bytes=len(face.frame),
            model_id=face.model.hex(), received=datetime.fromtimestamp(face.received, UTC),
            revision=face.revision,
        )  # fmt: skip


class FacePage(_Answer):
    """Faces in order of arrival; pass `next` as `after` to go on, None at the end."""

    faces: list[FaceInfo]
    next: int | None


class Match(FaceInfo):
    """A stored face that is like the one searched for."""

    cosine: float = Field(ge=-1, le=1, description="similarity of their embeddings")


class MatchPage(_Answer):
    """The faces most alike, best first."""

    layers: int = Field(description="layers that were compared")
    searched: int = Field(description="faces in the index, of all devices")
    complete: bool = Field(description="whether the index holds all changes that the server knows of")
    faces: list[Match]


class DeviceInfo(_Answer):
    """What one device has sent; the last hour is by the server's clock."""

    device: str
    faces: int
    bytes: int = Field(description="sum of its frames")
    last_received: datetime
    faces_last_hour: int
    bytes_last_hour: int


class DeviceList(_Answer):
    """Every device of which a face is stored, by name; `time` is the server's."""

    time: datetime
    devices: list[DeviceInfo]


class ModelInfo(_Answer):
    """A model whose frames this server accepts."""

    name: str
    model_id: str
    device: str
    precision: str
    config: CodecConfig

    @classmethod
    def of(cls, service: DecodeService, device: str) -> "ModelInfo":
        """Of a loaded model whose faces are painted on `device`."""
        return cls(
            name=service.config.name, model_id=service.model_id.hex(), device=device,
            precision=POLICIES[device].precision, config=service.config,
        )  # fmt: skip


class ModelList(_Answer):
    """All of them, in the order they were named at the start."""

    models: list[ModelInfo]


class State(_Answer):
    """Health or readiness; `reason` says what is wrong."""

    ok: bool
    reason: str | None = None


class ErrorAnswer(_Answer):
    """Every refusal: one line."""

    error: str

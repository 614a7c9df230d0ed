"""What the routes answer, as JSON."""

from datetime import UTC, datetime

from pydantic import BaseModel, ConfigDict, Field

from edge_stscq.codec.config import CodecConfig
from edge_stscq.server.decode_service import DecodeService
from edge_stscq.server.policy import POLICIES
from edge_stscq.server.store import StoredFace


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
    layers: int = Field(ge=1, le=3)
    bytes: int = Field(description="size of the frame")
    model_id: str
    received: datetime

    @classmethod
    def of(cls, face: StoredFace) -> "FaceInfo":
        return cls(
            id=face.id, device=face.device, sequence=face.sequence, layers=face.layers, bytes=len(face.frame),
            model_id=face.model.hex(), received=datetime.fromtimestamp(face.received, UTC),
        )  # fmt: skip


class FacePage(_Answer):
    """Faces in order of arrival; pass `next` as `after` to go on, None at the end."""

    faces: list[FaceInfo]
    next: int | None


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

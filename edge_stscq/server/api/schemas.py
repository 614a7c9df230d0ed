"""JSON models of the responses."""

from base64 import b64encode
from datetime import UTC, datetime, timedelta
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from edge_stscq._limits import MAX_LAYERS
from edge_stscq.codec.execution_profile import PROFILES
from edge_stscq.config.codec import CodecConfig
from edge_stscq.config.match_thresholds import Limit, Verdict
from edge_stscq.server.decoding.catalog import CatalogEntry
from edge_stscq.server.storage.face_store import StoredFace


class _Response(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


Clock = Literal["none", "unsynchronized", "synchronized"]
_CLOCKS: dict[int, Clock] = {0: "none", 1: "unsynchronized", 2: "synchronized"}
_LAST_MOMENT = 253_402_300_799
"""Second since 1970 UTC; the end of the year 9999, which dates go up to."""


def moment(seconds: float) -> datetime:
    """Date of seconds since 1970 UTC, or the nearest that there is."""
    return datetime.fromtimestamp(min(max(seconds, 0), _LAST_MOMENT), UTC)


def _captured(milliseconds: int | None) -> datetime | None:
    if milliseconds is None:
        return None
    return moment(0) + timedelta(milliseconds=min(milliseconds, _LAST_MOMENT * 1000))


class ErasedInfo(_Response):
    """Word of the live feed that a face is gone."""

    erased: str = Field(description="its id")
    revision: int = Field(description="of this change")


class Erased(_Response):
    """Answer to an erasure."""

    erased: str = Field(description="id of the face")
    overwritten: bool = Field(description="nothing of it is left in the store's free room and log either")


class FaceInfo(_Response):
    """One stored face."""

    id: str
    device: str
    stream: str = Field(description="id of the stream, in hexadecimal")
    sequence: int = Field(description="number of the face in its stream")
    layers: int = Field(ge=1, le=MAX_LAYERS)
    bytes: int = Field(description="size of the frame, without what it shares with its neighbors")
    model_id: str
    protected: bool = Field(description="a protected template: it has no picture, and is matched where its key is")
    captured: datetime | None = Field(description="by the device's clock; null if it gave no time")
    clock: Clock = Field(description="of the device, at capture")
    track: int | None = Field(description="shared by the faces of one visit to the device")
    quality: int | None = Field(ge=0, le=100)
    received: datetime
    revision: int = Field(description="orders changes; raised when the face gains layers")

    @classmethod
    def of(cls, face: StoredFace) -> "FaceInfo":
        """Of a face that is not damaged."""
        return cls(
            id=face.id, device=face.device, stream=face.stream.hex(), sequence=face.sequence, layers=face.layers,
            bytes=face.size, model_id=face.model.hex(), protected=face.protected, captured=_captured(face.captured_ms),
            clock=_CLOCKS[face.clock], track=face.track, quality=face.quality, received=moment(face.received),
            revision=face.revision,
        )  # fmt: skip


class FacePage(_Response):
    """Faces in order of arrival; pass `next` as `after` to go on, None at the end.

    A face that was damaged in the store is left out; the server's log names it.
    """

    faces: list[FaceInfo]
    next: int | None


class NewestPage(_Response):
    """Faces by time of capture, newest first; pass `next` as `before` to go on, None at the end.

    Damaged ones are left out as in `FacePage`.
    """

    faces: list[FaceInfo]
    next: str | None


class TemplateInfo(_Response):
    """One protected template."""

    id: str = Field(description="of the face")
    device: str
    model_id: str = Field(description="of the tokens it was made of: it compares with no other model's")
    captured: datetime | None
    received: datetime
    template: str = Field(description="base64")
    revision: int

    @classmethod
    def of(cls, face: StoredFace) -> "TemplateInfo":
        """Of a protected face that is not damaged."""
        return cls(
            id=face.id, device=face.device, model_id=face.model.hex(), captured=_captured(face.captured_ms),
            received=moment(face.received), template=b64encode(face.payload).decode(), revision=face.revision,
        )  # fmt: skip


class TemplatePage(_Response):
    """Changes of protected templates in the order of revisions; pass `next` as `after` to go on.

    `complete` is true if there were no further changes. A template that was damaged in the store is left out.
    """

    templates: list[TemplateInfo]
    erased: list[str] = Field(description="faces of any kind that are gone, by id")
    next: int
    complete: bool


class Match(FaceInfo):
    """A stored face that is like the one searched for."""

    cosine: float = Field(ge=-1, le=1, description="similarity of their embeddings")
    score: float = Field(description="what it is judged by: the cosine, less how near both faces are to faces at large")
    verdict: Verdict | None = Field(description="null: the false matches of this model were never measured")


class Threshold(_Response):
    """A score, and the share of pairs of strangers that pass it."""

    score: float
    false_match_rate: float

    @classmethod
    def of(cls, limit: Limit) -> "Threshold":
        """Of a limit of the model's rule."""
        return cls(score=limit.score, false_match_rate=limit.false_match_rate)


class MatchThresholdPair(_Response):
    """Thresholds of both verdicts."""

    same_person: Threshold
    perhaps: Threshold


class MatchPage(_Response):
    """The faces most alike, best first by their score, and what to say of the best."""

    layers: int = Field(description="layers that were compared")
    searched: int = Field(description="faces in the index, of all devices")
    complete: bool = Field(description="whether the index holds all changes that the server knows of")
    verdict: Verdict | None = Field(description="of the best face; null: this model was never measured")
    false_match_rate: float | None = Field(
        description="of one comparison with a stranger, at the threshold that the best face passes; null: at none"
    )
    expected_strangers: float | None = Field(
        description="faces of strangers that are expected to pass this threshold among those that were compared"
    )
    thresholds: MatchThresholdPair | None
    faces: list[Match]


class PictureMatchPage(MatchPage):
    """The faces most like the largest of an uploaded picture."""

    quality: int = Field(ge=0, le=100, description="of the face in the picture")
    box: tuple[float, float, float, float] | None = Field(
        description="of this face: x, y, width and height in pixels of the upright picture"
    )
    faces_in_picture: int


class DeviceInfo(_Response):
    """Statistics of one device; the last hour is by the server's clock."""

    device: str
    faces: int
    bytes: int = Field(description="sum of its frames")
    last_received: datetime
    faces_last_hour: int
    bytes_last_hour: int


class DeviceList(_Response):
    """Every device of which a face is stored, by name; `time` is the server's."""

    time: datetime
    devices: list[DeviceInfo]


class ModelInfo(_Response):
    """A model whose frames this server accepts."""

    name: str
    model_id: str
    device: str
    precision: str
    config: CodecConfig

    @classmethod
    def of(cls, model: CatalogEntry, device: str) -> "ModelInfo":
        """Of a model whose faces are decoded on `device`."""
        return cls(
            name=model.config.name, model_id=model.model_id.hex(), device=device,
            precision=PROFILES[device].precision, config=model.config,
        )  # fmt: skip


class ModelList(_Response):
    """All of them, in the order they were named at the start, and what else this server does with their faces."""

    models: list[ModelInfo]
    persons: bool = Field(description="it groups them into visits and persons")
    pictures: bool = Field(description="it codes uploaded pictures")


class State(_Response):
    """Health or readiness; `reason` says what is wrong."""

    ok: bool
    reason: str | None = None


class ReadyState(State):
    """Readiness; `decoder` names what the decoder's process has given up, or says "none"."""

    decoder: str


class ErrorAnswer(_Response):
    """Every refusal: one line."""

    error: str

"""JSON models of what the matcher is asked and answers."""

from datetime import datetime
from typing import Annotated, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from edge_stscq.config.codec import EMBEDDING
from edge_stscq.config.match_thresholds import Limits, Verdict
from edge_stscq.errors import EdgeError
from edge_stscq.privacy import TemplateHit
from edge_stscq.protocol import DEVICE_NAME

_Part = Annotated[float, Field(ge=-1.01, le=1.01)]
"""Number of a unit vector, which may be rounded."""
_FACE = rf"^{DEVICE_NAME}-[0-9]{{1,16}}$"


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class Embedded(_Model):
    """An embedding, which is a face: it is kept nowhere."""

    embedding: list[_Part] = Field(min_length=EMBEDDING, max_length=EMBEDDING)
    model_id: str = Field(pattern="^[0-9a-f]{16}$", description="of the tokens that it was read from")


class MatchRequest(Embedded):
    """One face to match: with all templates, or with that of one record or one face."""

    record: str | None = Field(default=None, min_length=1, max_length=200)
    face: str | None = Field(default=None, pattern=_FACE)
    device: str | None = Field(default=None, pattern=rf"^{DEVICE_NAME}$", description="only templates of this device")
    limit: int = Field(default=10, ge=1, le=100)


class EnrollRequest(Embedded):
    """One face to enroll, or to renew a record with."""

    record: str = Field(min_length=1, max_length=200)


class RevokeRequest(_Model):
    """Record to revoke."""

    record: str = Field(min_length=1, max_length=200)


class Hit(_Model):
    """A template that is like the face, and the record of its key."""

    face: str
    record: str
    device: str
    captured: datetime | None
    score: float = Field(description="of the scheme; higher is more alike")
    verdict: Verdict | None = Field(
        description="of this one comparison; null where no thresholds of this model and scheme are given"
    )
    false_match_rate: float | None = Field(
        description="share of strangers who pass the score that the verdict asks for; null of nobody, or no verdict"
    )

    @classmethod
    def of(cls, hit: TemplateHit, limits: Limits | None) -> "Hit":
        """Of a result of the matcher, judged by these thresholds if there are any."""
        passed = None if limits is None else limits.passed(hit.score)
        return cls(
            **hit._asdict(), verdict=None if limits is None else limits.verdict(hit.score),
            false_match_rate=None if passed is None else passed.false_match_rate,
        )  # fmt: skip


class MatchAnswer(_Model):
    """The templates most alike, best first."""

    scheme: str
    searched: int = Field(description="templates in memory that can be matched")
    without_key: int = Field(description="templates that are held and whose key is in no key store here")
    refused: int = Field(description="templates of another scheme, cut off, or changed since they were made")
    complete: bool = Field(description="whether all templates that the server has were looked at")
    hits: list[Hit]


class ChangeAnswer(_Model):
    """Result of a change of a record."""

    record: str
    face: str | None = Field(description="its template at the server; null of a revoked record")
    erased: list[str] = Field(description="earlier templates that the server has erased")
    left: list[str] = Field(description="earlier templates that the server still has, and nobody can match")


Request = TypeVar("Request", MatchRequest, EnrollRequest, RevokeRequest)


def read_request(kind: type[Request], body: bytes) -> Request:
    """Read a body.

    Raises:
        EdgeError: it is no such request; the line holds nothing of it.
    """
    try:
        return kind.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the body"
        raise EdgeError(f"{where}: {first['msg'].lower()}; see docs/privacy.md for what a matcher takes") from None

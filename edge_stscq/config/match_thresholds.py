"""Match thresholds: from which score on two faces are taken for one person's, each with its rate of false matches.

`thresholds.json` lies beside the weights of a model, and in its bundles. It is measured, by `edge-stscq thresholds`,
over all pairs of faces of different people in a set of crops, and says which set, which encoder and how many pairs. It
is no part of the model id: the same tokens may be judged by a better measurement later. A score is a cosine, less how
near both faces are to a cohort (`bundle/match_rule.py`) where there is one.

A rate is that of one comparison. A search compares with every face that is kept: of 10,000 faces of strangers one is
expected above the score that 1 in 10,000 passes.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from edge_stscq._files import write_file
from edge_stscq.errors import EdgeError

FILE = "thresholds.json"
MAX_BYTES = 1 << 20
Verdict = Literal["same person", "perhaps", "nobody here"]
SAME_PERSON_RATE, PERHAPS_RATE = 1e-4, 1e-3
"""Shares of stranger pairs that pass the score of either verdict."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Rate(_Frozen):
    """Share of stranger pairs above a score, counted, with its 95 % interval (Wilson 1927).

    Pairs share faces and so are not independent: true intervals are wider.
    """

    matches: int = Field(ge=0)
    pairs: int = Field(gt=0)
    rate: float = Field(ge=0, le=1)
    low: float = Field(ge=0, le=1)
    high: float = Field(ge=0, le=1)


class Limit(_Frozen):
    """A score and how often it is wrong: a pair above it is accepted."""

    score: float = Field(ge=-2, le=2)
    false_match_rate: float = Field(gt=0, lt=1, description="share of stranger pairs that it was chosen to let through")
    measured: Rate
    same_accepted: Rate | None = Field(default=None, description="of pairs of one person; null where there were none")


class Limits(_Frozen):
    """The scores of both verdicts."""

    same_person: Limit
    perhaps: Limit

    @model_validator(mode="after")
    def _ordered(self) -> "Limits":
        if self.same_person.score < self.perhaps.score:
            raise ValueError("same_person lies below perhaps")
        return self

    def verdict(self, score: float) -> Verdict:
        """Verdict on two faces of such a score.

        Example:
            >>> limits.verdict(0.9)
            'same person'
        """
        if score > self.same_person.score:
            return "same person"
        return "perhaps" if score > self.perhaps.score else "nobody here"

    def passed(self, score: float) -> Limit | None:
        """The stricter limit that a score passes, if any."""
        if score > self.same_person.score:
            return self.same_person
        return self.perhaps if score > self.perhaps.score else None


class LabelRates(_Frozen):
    """False matches among the people of one label, at the thresholds of all."""

    label: str
    value: str
    people: int
    same_person: Rate
    perhaps: Rate


class LayerThresholds(_Frozen):
    """Thresholds of faces that are compared by a prefix of layers.

    Attributes:
        pair: one face against one face.
        track: one face against the average of a visit's; None where no person of the set has several faces.
    """

    name: str
    pair: Limits
    track: Limits | None = None
    labels: tuple[LabelRates, ...] = ()


class Measurement(_Frozen):
    """Origin of thresholds."""

    encoder: str = Field(description="what made the tokens")
    crops: tuple[str, ...] = Field(min_length=1, description="names of the sets")
    crops_sha256: str = Field(
        pattern=r"^[0-9a-f]{64}$", description="of the crops' pixels, in the order of their names"
    )
    faces: int = Field(gt=0)
    people: int = Field(gt=1)
    stranger_pairs: int = Field(gt=0)
    cohort: tuple[str, ...] = Field(default=(), description="names of the sets whose clusters scores are held against")
    cohort_faces: int | None = None
    cohort_sha256: str | None = Field(
        default=None, pattern=r"^[0-9a-f]{64}$", description="of cohort.safetensors; null: scores are cosines"
    )
    track_faces: int | None = Field(default=None, description="most faces averaged for `track`")


class MatchThresholds(_Frozen):
    """`thresholds.json`: a row of thresholds for each layer of a model.

    Example:
        >>> thresholds = MatchThresholds.load(Path("models/face64"))
        >>> thresholds.verdict(score, layers=2)
        'perhaps'
    """

    format_version: Literal[1] = 1
    model_id: str = Field(pattern=r"^[0-9a-f]{16}$")
    measured: Measurement
    layers: tuple[LayerThresholds, ...] = Field(min_length=1)

    def limits(self, layers: int, track: bool = False) -> Limits:
        """Thresholds of faces compared by their first `layers` layers, 1 or more.

        Args:
            track: for a face against the average of a visit's embeddings.

        Raises:
            EdgeError: none were measured for so many layers, or none against an average.
        """
        if not 1 <= layers <= len(self.layers):
            raise EdgeError(f"thresholds are known for 1 to {len(self.layers)} layers, not for {layers}")
        row = self.layers[layers - 1]
        if not track:
            return row.pair
        if row.track is None:
            raise EdgeError("no threshold against a visit's average was measured; give several faces of a person")
        return row.track

    def verdict(self, score: float, layers: int, track: bool = False) -> Verdict:
        """Verdict on two faces; arguments and errors as of `limits`."""
        return self.limits(layers, track).verdict(score)

    @classmethod
    def load(cls, folder: Path) -> "MatchThresholds | None":
        """The thresholds in a model's folder; None where there are none.

        Raises:
            EdgeError: the file is damaged.
        """
        path = Path(folder) / FILE
        try:
            with path.open("rb") as file:
                return cls.parse(file.read(MAX_BYTES), str(path))
        except FileNotFoundError:
            return None
        except OSError as error:
            raise EdgeError(f"cannot read {path}: {error.strerror}; copy it again") from None

    @classmethod
    def parse(cls, data: bytes, where: str) -> "MatchThresholds":
        """Thresholds from the bytes of their file, which `where` names.

        Raises:
            EdgeError: they are none.
        """
        try:
            return cls.model_validate_json(data)
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, first["loc"])) or "file"
            hint = "measure them again with: edge-stscq thresholds"
            raise EdgeError(f"{where}: {place}: {first['msg']}; {hint}") from None

    def check(self, model_id: bytes, layer_names: Sequence[str], where: str) -> None:
        """Refuse thresholds of another model.

        Raises:
            EdgeError: they are.
        """
        if self.model_id != model_id.hex() or [row.name for row in self.layers] != list(layer_names):
            raise EdgeError(
                f"{where} is of model {self.model_id} and not of {model_id.hex()}; "
                "measure it again with: edge-stscq thresholds"
            )

    def to_json(self) -> bytes:
        """Content of the file; the same thresholds give the same bytes."""
        return (self.model_dump_json(indent=1) + "\n").encode()

    def save(self, folder: Path) -> None:
        """Write the file into a model's folder, in one step.

        Raises:
            EdgeError: it cannot be written.
        """
        write_file(Path(folder) / FILE, self.to_json())

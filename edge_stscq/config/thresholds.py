"""Thresholds of parity. Importing this needs no torch, so that `--help` stays quick.

A recipe states two sets of them for its model. `[parity]` is what a release must reach. `[parity.floor]` is what the
model of today reaches with a little to spare: below it, a change made something worse.
"""

from pydantic import BaseModel, ConfigDict, Field, model_validator

_INTEGERS: dict[str, object] = {
    "runtime_agreement": 1.0, "token_agreement": None, "clear_agreement": None, "group_agreement": None,
    "excess_distortion": 0.01, "identity": 0.99, "accuracy_lost": 0.001, "beyond_error": True, "target_agreement": 1.0,
}  # fmt: skip


class Thresholds(BaseModel):
    """The least that passes; of `accuracy_lost` and `excess_distortion`, the most."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    runtime_agreement: float = Field(default=0.999, ge=0, le=1, description="tokens, artefact against its graph")
    token_agreement: float | None = Field(
        default=0.99, ge=0, le=1, description="tokens, artefact against full precision; null: reported only"
    )
    clear_agreement: float | None = Field(
        default=0.995, ge=0, le=1, description="the same, of tokens with a margin above the median of the flips"
    )
    group_agreement: float | None = Field(
        default=0.995, ge=0, le=1, description="groups, artefact against full precision; null: reported only"
    )
    excess_distortion: float | None = Field(
        default=None, ge=0, description="by what share codewords lie farther from full-precision token vectors than "
        "its own do, in the worst layer; null: reported only",
    )
    identity: float = Field(default=0.98, ge=-1, le=1, description="mean cosine of decoded faces")
    accuracy_lost: float = Field(
        default=0.001, ge=0, le=1, description="verification accuracy of full precision minus the artefact's, any layer"
    )
    beyond_error: bool = Field(
        default=False, description="of `accuracy_lost`, only what exceeds the standard error of the difference counts"
    )
    target_agreement: float = Field(
        default=0.999, ge=0, le=1, description="tokens, between any two artefacts of one precision"
    )

    def for_integers(self) -> "Thresholds":
        """These thresholds for the int8 artefact of a student made for integers, where they are not stated.

        Its artefacts must be their graph exactly, and int8 is judged by what it costs instead of by groups and tokens.
        """
        return self.model_copy(update={key: _INTEGERS[key] for key in _INTEGERS.keys() - self.model_fields_set})


class ParityThresholds(Thresholds):
    """The table `[parity]` of a recipe. Its `floor` repeats only what it lowers."""

    floor: Thresholds | None = None

    @model_validator(mode="before")
    @classmethod
    def _floor_repeats_the_rest(cls, table: object) -> object:
        if isinstance(table, dict) and isinstance(floor := table.get("floor"), dict):
            return table | {"floor": {key: value for key, value in table.items() if key != "floor"} | floor}
        return table


class Check(BaseModel):
    """One figure held against its limit."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    figure: str
    value: float
    limit: float
    at_least: bool = Field(description="the limit is the least that passes; false: the most")
    passed: bool

    def __str__(self) -> str:
        bound = "at least" if self.at_least else "at most"
        return f"{self.figure} is {self.value:.4f}, {bound} {self.limit:g} is asked"


def at_least(figure: str, value: float, limit: float) -> Check:
    return Check(figure=figure, value=value, limit=limit, at_least=True, passed=value >= limit)


def at_most(figure: str, value: float, limit: float) -> Check:
    return Check(figure=figure, value=value, limit=limit, at_least=False, passed=value <= limit)

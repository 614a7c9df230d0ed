"""When parity is good enough. Importing this needs no torch, so that `--help` stays quick."""

from pydantic import BaseModel, ConfigDict, Field


class Thresholds(BaseModel):
    """The least that passes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    runtime_agreement: float = Field(default=0.99, ge=0, le=1, description="tokens, artefact against its graph")
    token_agreement: float = Field(default=0.97, ge=0, le=1, description="tokens, artefact against full precision")
    group_agreement: float = Field(default=0.98, ge=0, le=1, description="groups, artefact against full precision")
    identity: float = Field(default=0.95, ge=-1, le=1, description="mean cosine of decoded faces")

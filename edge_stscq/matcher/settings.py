"""Bounds of what the matcher is asked: bodies are an embedding and a name."""

from pydantic import BaseModel, ConfigDict, Field


class MatcherSettings(BaseModel):
    """Allowances of a principal, as `Guard` holds them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    requests_per_minute: float = Field(default=1200, ge=1, description="of one token")
    bytes_per_minute: int = Field(default=8 << 20, ge=1, description="bodies of one token")
    max_body_bytes: int = Field(default=16 << 10, ge=64)
    body_seconds: float = Field(default=10, gt=0, description="a body that arrives slower than this is dropped")

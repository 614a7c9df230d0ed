"""Values of the training commands' options."""

from enum import StrEnum


class PrecisionName(StrEnum):
    """Precision of networks while they are trained."""

    AUTO = "auto"
    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"


class TokensOf(StrEnum):
    """The encoder whose tokens a decoder learns on."""

    STUDENT = "student"
    TEACHER = "teacher"

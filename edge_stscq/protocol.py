"""Protocol between devices and servers: names, header fields, paths and the acknowledgement of a request.

A device posts a stream to `STREAMS_PATH`; the server answers with a `StreamAcknowledgement` once all of it is on its
disk or refused (docs/spec/wire.md). Version 1 posts to `FRAMES_PATH`, and header fields name the device and the number
of the first face.
"""

import re
from enum import StrEnum

from pydantic import BaseModel, Field

from edge_stscq.errors import EdgeError

DEVICE_NAME = r"[A-Za-z0-9._-]{1,64}"
"""Pattern of a device's name: every header and file name can carry it."""
MAX_SEQUENCE = 2**53 - 1
"""Largest sequence number of a face: the last integer that JSON's readers hold exactly."""
DEVICE_HEADER = "Edge-Device"
SEQUENCE_HEADER = "Edge-Sequence"
FRAMES_PATH = "/v1/frames"
STREAMS_PATH = "/v2/frames"
TEMPLATES_PATH = "/v1/templates"
PASSING = frozenset({408, 425, 429})
"""Answers below 500 that another try may change; from 500 on, all are such."""


class Acknowledgement(BaseModel):
    """Answer to a request: every frame in it is on the server's disk, or a watch list let it pass."""

    device: str
    first: int = Field(ge=0, description="sequence number of the first frame")
    count: int = Field(ge=0, description="frames in the request")
    stored: int = Field(ge=0, description="new faces")
    extended: int = Field(ge=0, description="faces that gained layers")
    duplicate: int = Field(ge=0, description="frames that were known already, or that a watch list let pass")


class Refused(StrEnum):
    """Codes of refused frames."""

    UNKNOWN_MODEL = "unknown-model"
    UNKNOWN_CODER = "unknown-coder"
    UNKNOWN_KIND = "unknown-kind"
    UNKNOWN_EXTENSION = "unknown-extension"
    NOT_CANONICAL = "not-canonical"
    CONFLICT = "conflict"
    ERASED = "erased"


REFUSED_REQUEST = "refused-request"
"""Code by which a sender remembers a face whose request is refused as a whole when it is alone in it."""


class RefusedFrame(BaseModel):
    """A frame that the server will not take, whenever it comes again."""

    stream: str = Field(description="id of the stream in hexadecimal", max_length=32)
    number: int = Field(ge=0, le=MAX_SEQUENCE)
    code: str = Field(description="see docs/spec/wire.md; a newer server may know more", max_length=64)
    reason: str = Field(max_length=1000)


class StreamAcknowledgement(BaseModel):
    """Answer to a stream: each frame is on the server's disk, or is listed as refused, or a watch list let it pass."""

    device: str
    count: int = Field(ge=0, description="frames in the request")
    stored: int = Field(ge=0, description="new faces")
    extended: int = Field(ge=0, description="faces that gained layers")
    duplicate: int = Field(ge=0, description="frames that were known already, or that a watch list let pass")
    refused: list[RefusedFrame] = Field(default=[], description="frames of which nothing was stored")


def check_device(name: str) -> None:
    """Refuse what cannot name a device.

    Raises:
        EdgeError: `name` is not 1 to 64 of `A-Z a-z 0-9 . _ -`.
    """
    if not re.fullmatch(DEVICE_NAME, name):
        raise EdgeError(f"{name!r} cannot name a device; use 1 to 64 of A-Z a-z 0-9 . _ -")

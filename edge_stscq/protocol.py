"""Protocol between devices and servers: names, header fields, paths and the acknowledgement of a request.

A device posts a stream to `FRAMES_PATH`. The header fields name the device and the number of the first face; frames
that follow in the stream are numbered on. The server answers with an `Acknowledgement` once all of it is on its disk.
"""

import re

from pydantic import BaseModel, Field

from edge_stscq.errors import EdgeError

DEVICE_NAME = r"[A-Za-z0-9._-]{1,64}"
"""Pattern of a device's name: every header and file name can carry it."""
MAX_SEQUENCE = 2**53 - 1
"""Largest sequence number of a face: the last integer that JSON's readers hold exactly."""
DEVICE_HEADER = "Edge-Device"
SEQUENCE_HEADER = "Edge-Sequence"
FRAMES_PATH = "/v1/frames"


class Acknowledgement(BaseModel):
    """Answer to a request: every frame in it is on the server's disk."""

    device: str
    first: int = Field(ge=0, description="sequence number of the first frame")
    count: int = Field(ge=0, description="frames in the request")
    stored: int = Field(ge=0, description="new faces")
    extended: int = Field(ge=0, description="faces that gained layers")
    duplicate: int = Field(ge=0, description="frames that were known already")


def check_device(name: str) -> None:
    """Refuse what cannot name a device.

    Raises:
        EdgeError: `name` is not 1 to 64 of `A-Z a-z 0-9 . _ -`.
    """
    if not re.fullmatch(DEVICE_NAME, name):
        raise EdgeError(f"{name!r} cannot name a device; use 1 to 64 of A-Z a-z 0-9 . _ -")

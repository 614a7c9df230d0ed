"""Decode request: a plain value that crosses a pipe or a cluster as it is.

Whoever receives it looks the decoder up by the model id.
"""

import hashlib
from dataclasses import dataclass

from edge_stscq.stream.face import CodedFace


@dataclass(frozen=True, slots=True)
class DecodeRequest:
    """One face to decode.

    Attributes:
        model_id: 8 bytes that name its decoder.
        face: has exactly the layers that are decoded.
    """

    model_id: bytes
    face: CodedFace

    @property
    def layers(self) -> int:
        return self.face.layers

    @property
    def key(self) -> str:
        """Name of the picture by its content, 32 hexadecimal digits: model, group and the tokens that are decoded."""
        content = self.model_id + self.face.group.to_bytes(2) + self.face.tokens.tobytes()
        return hashlib.sha256(content).hexdigest()[:32]

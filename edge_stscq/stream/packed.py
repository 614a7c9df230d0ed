"""Mixed-radix packing: no payload longer than its face's group and tokens written as one number.

Arithmetic coding spends more than `log2 K` bits on a token that is rarer than one in `K`, so a face that is unlike
those the tables were counted over becomes longer than the plain number it is. Such a face is packed instead. Which of
the two a payload is, its length says: packed payloads of `n` tokens all have the bytes that the largest such number
needs, and arithmetic coding is used only below that.
"""

import hashlib
from collections.abc import Sequence
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from edge_stscq.errors import FrameError
from edge_stscq.stream.entropy import CODER_ID_BYTES, EntropyModel
from edge_stscq.stream.face import CodedFace

PACKED_OR_STATIC = hashlib.sha256(b"edge-stscq coder 2\n").digest()[:CODER_ID_BYTES]
"""Coder id of `Packed` over the static tables that belong to a model id."""
CoderName = Literal["static", "packed", "learned"]
"""Coders of a bundle: the static tables alone, bounded by packing, or a learned model, bounded likewise."""


class Packed:
    """An entropy model whose payloads are never longer than the packed number; an `EntropyModel` itself.

    Args:
        entropy: codes the faces that it makes shorter.

    Example:
        >>> tables = Tables.from_counts(np.ones((1, 2, 256), int), [1], (2,))
        >>> Packed(tables).payload_limits
        (2,)
    """

    coder = 2

    def __init__(self, entropy: EntropyModel) -> None:
        self._entropy = entropy
        groups, _, entries = entropy.shape
        self._counts = [groups * entries**end for end in entropy.layer_ends]

    @property
    def shape(self) -> tuple[int, int, int]:
        """`(M, T, K)`."""
        return self._entropy.shape

    @property
    def layer_ends(self) -> tuple[int, ...]:
        """Those of the model within."""
        return self._entropy.layer_ends

    @cached_property
    def payload_limits(self) -> tuple[int, ...]:
        """Bytes of the largest number, or of the model within where that is less."""
        return tuple(map(min, self._sizes, self._entropy.payload_limits))

    @cached_property
    def _sizes(self) -> tuple[int, ...]:
        return tuple(((count - 1).bit_length() + 7) // 8 for count in self._counts)

    def parameters(self) -> Sequence[tuple[str, NDArray[np.generic]]]:
        """Those of the model within; packing has none."""
        return self._entropy.parameters()

    def encode(self, face: CodedFace) -> bytes:
        """The payload of the model within if it is shorter than the packed number, which it is otherwise."""
        return self.encode_many([face])[0]

    def encode_many(self, faces: Sequence[CodedFace]) -> list[bytes]:
        """As `encode`, of several faces of equally many layers."""
        size = self._sizes[faces[0].layers - 1] if faces else 0
        return [
            coded if len(coded) < size else self._number(face).to_bytes(size, "big")
            for coded, face in zip(self._entropy.encode_many(faces), faces, strict=True)
        ]

    def decode(self, payload: bytes, layers: int) -> CodedFace:
        """The face whose payload this is.

        Raises:
            FrameError: `encode` makes another payload of it, or no face has so long a one.
        """
        if len(payload) < self._sizes[layers - 1]:
            return self._entropy.decode(payload, layers)
        (face,) = self._unpack([payload], layers)
        if isinstance(face, FrameError):
            raise face
        return face

    def decode_many(self, payloads: Sequence[bytes], layers: int) -> list[CodedFace | FrameError]:
        """As `decode`, of several payloads at once, the error in the place of a face."""
        size = self._sizes[layers - 1]
        coded = iter(self._entropy.decode_many([one for one in payloads if len(one) < size], layers))
        packed = iter(self._unpack([one for one in payloads if len(one) >= size], layers))
        return [next(coded) if len(one) < size else next(packed) for one in payloads]

    def _unpack(self, payloads: Sequence[bytes], layers: int) -> list[CodedFace | FrameError]:
        """Faces of packed numbers that have no shorter payload."""
        size, count = self._sizes[layers - 1], self._counts[layers - 1]
        numbers = [int.from_bytes(one, "big") if len(one) == size else count for one in payloads]
        faces = [self._face(number, layers) for number in numbers if number < count]
        coded = iter(zip(faces, self._entropy.encode_many(faces), strict=True))
        found = list[CodedFace | FrameError]()
        for number in numbers:
            if number >= count:
                found.append(FrameError("payload is no packed face of this model"))
                continue
            face, shorter = next(coded)
            longer = FrameError("payload is packed where its face has a shorter one")
            found.append(longer if len(shorter) < size else face)
        return found

    def _number(self, face: CodedFace) -> int:
        number, entries = face.group, self.shape[2]
        for token in face.tokens.tolist():
            number = number * entries + token
        return number

    def _face(self, number: int, layers: int) -> CodedFace:
        tokens, entries = np.empty(self.layer_ends[layers - 1], np.uint16), self.shape[2]
        for place in reversed(range(len(tokens))):
            number, tokens[place] = divmod(number, entries)
        return CodedFace(number, tokens, layers)

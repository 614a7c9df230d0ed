"""Entropy model: what payloads are coded with, and the model id that names it together with the codebooks.

A stream is meaningless without the very codebooks and entropy model it was made with; `model_id` names the pair.
"""

import hashlib
from collections.abc import Iterable, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from edge_stscq.errors import FrameError
from edge_stscq.stream.face import CodedFace

MODEL_ID_BYTES = 8
CODER_ID_BYTES = 8


class EntropyModel(Protocol):
    """Faces to payloads and back, exactly and without floats: one face is one string of bytes.

    `Tables` has frequencies that are fixed, `Learned` some that depend on the layers below, and `Packed` bounds either.
    Another coder takes the next number; frames, and all that handles them, stay as they are.
    """

    @property
    def coder(self) -> int:
        """Number of the coder; every model id covers it."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """`(M, T, K)`: groups, tokens of a whole face, entries of a codebook."""

    @property
    def layer_ends(self) -> tuple[int, ...]:
        """Tokens in the prefix that ends with each of 1 to 15 layers; the last is `T`."""

    @property
    def payload_limits(self) -> tuple[int, ...]:
        """Bytes of the longest payload that a face of 1, 2, ... layers can have."""

    def parameters(self) -> Sequence[tuple[str, NDArray[np.generic]]]:
        """All that coding depends on besides the coder, by name, in whole numbers."""

    def encode(self, face: CodedFace) -> bytes:
        """The payload of a face that fits `shape` and `layer_ends`."""

    def encode_many(self, faces: Sequence[CodedFace]) -> list[bytes]:
        """As `encode`, of several faces of equally many layers."""

    def decode(self, payload: bytes, layers: int) -> CodedFace:
        """The face of `layers` layers that `encode` makes into this payload.

        Args:
            payload: at most `payload_limits[layers - 1]` bytes, from anyone.

        Raises:
            FrameError: there is no such face.
        """

    def decode_many(self, payloads: Sequence[bytes], layers: int) -> list[CodedFace | FrameError]:
        """As `decode`, of several payloads of equally many layers, the error in the place of a face."""


def model_id(books: NDArray[np.float32], entropy: EntropyModel) -> bytes:
    """Eight bytes that name the codebooks and the entropy model that a stream needs.

    They are the head of the sha256 over the coder's number and the name, shape and little-endian bytes of each array,
    so that no two different models serialize alike.

    Args:
        books: float32 `[M, T, K, D]`.
    """
    digest = hashlib.sha256(f"edge-stscq model {entropy.coder}\n".encode())
    arrays: list[tuple[str, NDArray[np.generic]]] = [("books", np.asarray(books, np.float32)), *entropy.parameters()]
    digest_arrays(digest, arrays)
    return digest.digest()[:MODEL_ID_BYTES]


def digest_arrays(digest: "hashlib._Hash", arrays: Iterable[tuple[str, NDArray[np.generic]]]) -> None:
    """Take in the name, type, shape and little-endian bytes of each array, so that no two lists look alike."""
    for name, array in arrays:
        dtype = array.dtype.newbyteorder("<")
        digest.update(f"{name} {dtype.str} {array.shape}\n".encode())
        digest.update(np.ascontiguousarray(array, dtype).tobytes())

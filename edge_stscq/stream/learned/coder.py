"""The learned entropy model as a coder: one pass of the predictor for each layer, then the same arithmetic coding.

A payload is that of the static tables but for the frequencies of its tokens, which the group and the layers below
choose. So the first layers of a face are coded as if it had no more, and a layer is read in one pass when those below
are known.
"""

import hashlib
from bisect import bisect_right
from collections.abc import Callable, Sequence
from functools import cached_property, partial
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from edge_stscq.errors import EdgeError, FrameError
from edge_stscq.stream.arithmetic import Decoder, Encoder
from edge_stscq.stream.batch import Messages, own_rows
from edge_stscq.stream.entropy import CODER_ID_BYTES, digest_arrays
from edge_stscq.stream.face import CodedFace
from edge_stscq.stream.learned.frequencies import Predictor
from edge_stscq.stream.learned.weights import Weights
from edge_stscq.stream.tables import NOT_CANONICAL, Tables

_AT_ONCE = 128
"""Payloads that are read side by side: their frequencies are some megabytes."""
_FEW = 4
"""Payloads from which on they are read side by side in less time than one by one."""


class Learned:
    """Frequencies of the layers above the first depend on the tokens below; an `EntropyModel`, described there.

    Args:
        tables: of the same model; what the weights say is relative to them.

    Raises:
        EdgeError: the weights are of a model of another shape.
    """

    coder = 3

    def __init__(self, weights: Weights, tables: Tables) -> None:
        if (weights.shape, weights.layer_ends) != (tables.shape, tables.layer_ends):
            raise EdgeError(
                f"the learned entropy model is for {weights.shape} groups, tokens and entries in layers that end at "
                f"{weights.layer_ends}, and these tables are for {tables.shape} and {tables.layer_ends}"
            )
        self.weights, self._tables = weights, tables
        self._predictor = Predictor(weights, tables.frequencies)
        self._first = [self._predictor.starts(0, group, np.zeros((1, 0), np.uint16)) for group in range(self.shape[0])]

    @cached_property
    def coder_id(self) -> bytes:
        """Eight bytes that name the coder and its weights in a section of frames; the model id names the tables."""
        digest = hashlib.sha256(f"edge-stscq coder {self.coder}\n".encode())
        digest_arrays(digest, self.weights.arrays().items())
        return digest.digest()[:CODER_ID_BYTES]

    @property
    def shape(self) -> tuple[int, int, int]:
        """`(M, T, K)`."""
        return self._tables.shape

    @property
    def layer_ends(self) -> tuple[int, ...]:
        """Those of the tables."""
        return self._tables.layer_ends

    @cached_property
    def payload_limits(self) -> tuple[int, ...]:
        """Two bytes for the group and each token: no frequency is below 1."""
        return tuple(2 * (1 + end) for end in self.layer_ends)

    def parameters(self) -> Sequence[tuple[str, NDArray[np.generic]]]:
        """Tables and weights."""
        return (*self._tables.parameters(), *self.weights.arrays().items())

    def encode(self, face: CodedFace) -> bytes:
        """Group and tokens as one arithmetic-coded message."""
        return self.encode_many([face])[0]

    def encode_many(self, faces: Sequence[CodedFace]) -> list[bytes]:
        """As `encode`, of several faces of equally many layers."""
        return _by_group(faces, [face.group for face in faces], self._encode)

    def _encode(self, group: int, faces: Sequence[CodedFace]) -> list[bytes]:
        tokens, encoders = np.stack([face.tokens for face in faces]), [Encoder() for _ in faces]
        for encoder in encoders:
            encoder.push(group, self._tables.group_row)
        start = 0
        for layer, end in enumerate(self.layer_ends[: faces[0].layers]):
            rows = self._rows(layer, group, tokens)
            symbols = tokens[:, start:end].astype(np.intp).T[..., None]
            low, high = (np.take_along_axis(rows, symbols + step, -1)[..., 0].T.tolist() for step in (0, 1))
            for encoder, *intervals in zip(encoders, low, high, strict=True):
                encoder.push_all(*intervals)
            start = end
        return [encoder.finish() for encoder in encoders]

    def decode(self, payload: bytes, layers: int) -> CodedFace:
        """The face whose message this is.

        Raises:
            FrameError: `encode` makes another payload of it.
        """
        decoder = Decoder(payload, 1 + self.layer_ends[layers - 1])
        group, tokens = decoder.pop(self._tables.group_row), list[int]()
        for layer in range(layers):
            rows = self._rows(layer, group, np.array([tokens], np.uint16))
            tokens += decoder.pop_all(rows[:, 0].tolist())
        if not decoder.is_shortest():
            raise FrameError(NOT_CANONICAL)
        return CodedFace(group, np.array(tokens, np.uint16), layers)

    def decode_many(self, payloads: Sequence[bytes], layers: int) -> list[CodedFace | FrameError]:
        """As `decode`, of several payloads at once, the error in the place of a face."""
        if len(payloads) < _FEW or self.shape[2] < 2:
            return [self._decode_or_error(payload, layers) for payload in payloads]
        first = [int.from_bytes(payload[:2].ljust(2, b"\0"), "big") for payload in payloads]
        groups = [bisect_right(self._tables.group_row, slot) - 1 for slot in first]
        return _by_group(payloads, groups, partial(self._decode, layers))

    def _decode(self, layers: int, group: int, payloads: Sequence[bytes]) -> list[CodedFace | FrameError]:
        ends, number = self.layer_ends[:layers], len(payloads)
        messages, tokens = Messages(payloads, 1 + ends[-1]), np.empty((number, ends[-1]), np.uint16)
        messages.pop(1, self._tables.rows_of_groups.lookup(np.zeros(number, np.intp)))
        start = 0
        for layer, end in enumerate(ends):
            rows = self._rows(layer, group, tokens)
            positions, faces, size = rows.shape
            which = np.arange(positions) * faces + (np.arange(number) if layer else np.zeros(number, np.intp))[:, None]
            tokens[:, start:end] = messages.pop(end - start, own_rows(rows.reshape(-1, size), which))
            start = end
        return [
            CodedFace.of_checked(group, row, layers) if whole else FrameError(NOT_CANONICAL)
            for row, whole in zip(tokens, messages.whole(), strict=True)
        ]

    def _decode_or_error(self, payload: bytes, layers: int) -> CodedFace | FrameError:
        try:
            return self.decode(payload, layers)
        except FrameError as error:
            return error

    def _rows(self, layer: int, group: int, tokens: NDArray[np.uint16]) -> NDArray[np.uint32]:
        """Rows `[n, N, size]` of a layer for faces of one group; in the first layer `N` is 1, for all of them."""
        return self._predictor.starts(layer, group, tokens) if layer else self._first[group]


_Item = TypeVar("_Item")
_Found = TypeVar("_Found")


def _by_group(
    items: Sequence[_Item], groups: Sequence[int], work: Callable[[int, Sequence[_Item]], Sequence[_Found]]
) -> list[_Found]:
    """Results of `work`, which gets the items group by group and not too many at once, in their own order."""
    found: dict[int, _Found] = {}
    for group in sorted(set(groups)):
        places = [place for place, one in enumerate(groups) if one == group]
        for start in range(0, len(places), _AT_ONCE):
            part = places[start : start + _AT_ONCE]
            found.update(zip(part, work(group, [items[place] for place in part]), strict=True))
    return [found[place] for place in range(len(items))]

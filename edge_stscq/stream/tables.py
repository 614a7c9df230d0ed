"""Integer frequency tables, the static entropy model: what is believed about groups and tokens.

Each token position of each group has its own table, counted once over the training faces and fixed from then on. The
tables are integers that sum to `2**16` and travel in the bundle, so a device and a server cannot disagree about a
probability the way two floating-point models do. Every entry is at least one: any token can be sent, a rare one costs
up to 16 bits.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import numpy as np
import safetensors.numpy
from numpy.typing import ArrayLike, NDArray
from safetensors import SafetensorError

from edge_stscq._files import write_file
from edge_stscq._limits import MAX_LAYERS
from edge_stscq.errors import EdgeError, FrameError
from edge_stscq.stream.arithmetic import PRECISION, TOTAL, Decoder, Encoder, sufficient_bytes
from edge_stscq.stream.batch import GroupRows, Messages
from edge_stscq.stream.face import CodedFace

NOT_CANONICAL = "payload is not the one an encoder makes for its face"
_FEW = 16
"""Payloads from which on they are read at once in less time than one by one."""


@dataclass(frozen=True, eq=False)
class Tables:
    """Frequencies of `M` groups and of `K` entries at each of `T` positions of each group, with arithmetic coding.

    An `EntropyModel`; its members are described there.

    Attributes:
        frequencies: uint32 `[M, T, K]`, each row at least 1 and summing to `2**16`.
        group_frequencies: uint32 `[M]`, likewise.
        layer_ends: tokens in the prefix that ends with each of 1 to 15 layers, e.g. `(16, 32, 64)`; the last is `T`.

    Raises:
        EdgeError: any of this does not hold.
    """

    coder: ClassVar[int] = 1

    frequencies: NDArray[np.uint32]
    group_frequencies: NDArray[np.uint32]
    layer_ends: tuple[int, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "frequencies", _checked(self.frequencies, 3, "frequencies"))
        object.__setattr__(self, "group_frequencies", _checked(self.group_frequencies, 1, "group_frequencies"))
        object.__setattr__(self, "layer_ends", tuple(int(end) for end in self.layer_ends))
        groups, tokens, _ = self.frequencies.shape
        if self.group_frequencies.shape != (groups,):
            raise EdgeError(f"tables have {groups} groups but {len(self.group_frequencies)} group frequencies")
        ends = self.layer_ends
        count = len(ends)
        if not 1 <= count <= MAX_LAYERS or ends[0] < 1 or list(ends) != sorted(ends) or ends[-1] != tokens:
            raise EdgeError(f"layer_ends {ends} is not 1 to {MAX_LAYERS} rising ends, the last of them {tokens}")

    @property
    def shape(self) -> tuple[int, int, int]:
        """`(M, T, K)`."""
        groups, tokens, entries = self.frequencies.shape
        return groups, tokens, entries

    @cached_property
    def rows(self) -> list[list[list[int]]]:
        """Cumulative rows for the arithmetic coder, `rows[group][position]` of `K + 1` integers."""
        groups, tokens, entries = self.shape
        cumulative = np.zeros((groups, tokens, entries + 1), np.int64)
        np.cumsum(self.frequencies, axis=-1, out=cumulative[..., 1:])
        rows: list[list[list[int]]] = cumulative.tolist()
        return rows

    @cached_property
    def group_row(self) -> list[int]:
        """Cumulative row of the groups, `M + 1` integers."""
        return [0, *np.cumsum(self.group_frequencies, dtype=np.int64).tolist()]

    @cached_property
    def payload_limits(self) -> tuple[int, ...]:
        """Bytes of the longest payload that a face of 1, 2, ... layers can have: its least likely message."""
        rarest: list[list[int]] = self.frequencies.min(axis=-1).tolist()
        limits = []
        for end in self.layer_ends:
            longest = 0
            for group, width in enumerate(self.group_frequencies.tolist()):
                for frequency in rarest[group][:end]:
                    width *= frequency
                longest = max(longest, sufficient_bytes(PRECISION * (1 + end), width))
            limits.append(longest)
        return tuple(limits)

    def parameters(self) -> tuple[tuple[str, NDArray[np.uint32]], ...]:
        """All three arrays."""
        return (
            ("frequencies", self.frequencies),
            ("group_frequencies", self.group_frequencies),
            ("layer_ends", np.array(self.layer_ends, np.uint32)),
        )

    def encode(self, face: CodedFace) -> bytes:
        """Group and tokens as one arithmetic-coded message."""
        encoder = Encoder()
        encoder.push(face.group, self.group_row)
        for token, row in zip(face.tokens.tolist(), self.rows[face.group], strict=False):
            encoder.push(token, row)
        return encoder.finish()

    def encode_many(self, faces: Sequence[CodedFace]) -> list[bytes]:
        """As `encode`, of several faces."""
        return [self.encode(face) for face in faces]

    def decode(self, payload: bytes, layers: int) -> CodedFace:
        """The face whose message this is.

        Raises:
            FrameError: `encode` makes another payload of it.
        """
        count = self.layer_ends[layers - 1]
        decoder = Decoder(payload, 1 + count)
        group = decoder.pop(self.group_row)
        tokens = decoder.pop_all(self.rows[group][:count])
        if not decoder.is_shortest():
            raise FrameError(NOT_CANONICAL)
        return CodedFace(group, np.array(tokens, np.uint16), layers)

    def decode_many(self, payloads: Sequence[bytes], layers: int) -> list[CodedFace | FrameError]:
        """As `decode`, of several payloads at once, the error in the place of a face."""
        if len(payloads) < _FEW or self.shape[2] < 2:
            return [self._decode_or_error(payload, layers) for payload in payloads]
        count = self.layer_ends[layers - 1]
        messages = Messages(payloads, 1 + count)
        groups = messages.pop(1, self.rows_of_groups.lookup(np.zeros(len(payloads), np.intp)))[:, 0]
        found = messages.pop(count, self._token_rows.lookup(groups.astype(np.intp)))
        return [
            CodedFace.of_checked(group, row, layers) if whole else FrameError(NOT_CANONICAL)
            for group, row, whole in zip(groups.tolist(), found, messages.whole(), strict=True)
        ]

    def _decode_or_error(self, payload: bytes, layers: int) -> CodedFace | FrameError:
        try:
            return self.decode(payload, layers)
        except FrameError as error:
            return error

    @cached_property
    def rows_of_groups(self) -> GroupRows:
        """Rows of the group's symbol, the first of a message."""
        return GroupRows(self.group_frequencies[None, None])

    @cached_property
    def _token_rows(self) -> GroupRows:
        return GroupRows(self.frequencies)

    @classmethod
    def from_counts(cls, counts: ArrayLike, group_counts: ArrayLike, layer_ends: Sequence[int]) -> "Tables":
        """Tables from how often each entry was seen.

        Each count is raised by one half (Krichevsky & Trofimov 1981), the best hedge against entries that are merely
        unseen, and scaled to the sum by largest remainders with one unit set aside for every entry. All in integers.

        Args:
            counts: whole numbers `[M, T, K]`, not negative.
            group_counts: whole numbers `[M]`, not negative.
            layer_ends: as in the attribute.

        Raises:
            EdgeError: counts are negative or fractions, or a table has more entries than units.
        """
        return cls(_normalized(counts), _normalized(group_counts), tuple(layer_ends))

    def save(self, path: Path) -> None:
        """Write a safetensors file, in one step and with the same bytes every time."""
        write_file(path, safetensors.numpy.save(dict(self.parameters())))

    @classmethod
    def load(cls, path: Path) -> "Tables":
        """Read what `save` wrote.

        Raises:
            EdgeError: the file is missing, damaged or holds no valid tables.
        """
        try:
            return cls.from_bytes(path.read_bytes())
        except OSError as error:
            raise EdgeError(f"cannot read {path}: {error.strerror}") from error
        except EdgeError as error:
            raise EdgeError(f"{path}: {error}") from error

    @classmethod
    def from_bytes(cls, data: bytes) -> "Tables":
        """`load` for the contents of a file."""
        try:
            tensors = safetensors.numpy.load(data)
            return cls(tensors["frequencies"], tensors["group_frequencies"], tuple(tensors["layer_ends"].tolist()))
        except (SafetensorError, KeyError, TypeError, ValueError) as error:
            raise EdgeError(f"not a file of frequency tables ({error})") from error


def _checked(values: NDArray[np.uint32], ndim: int, name: str) -> NDArray[np.uint32]:
    array = np.array(values)
    if array.dtype.kind not in "iu" or array.ndim != ndim or array.size == 0:
        raise EdgeError(f"{name} is {array.dtype} of shape {array.shape}, not integers in {ndim} dimensions")
    if array.min() < 1 or array.max() > TOTAL or (array.sum(axis=-1, dtype=np.int64) != TOTAL).any():
        raise EdgeError(f"a row of {name} does not consist of positive numbers that sum to {TOTAL}")
    array = array.astype(np.uint32)
    array.flags.writeable = False
    return array


def _normalized(counts: ArrayLike) -> NDArray[np.uint32]:
    array = np.asarray(counts)
    entries = array.shape[-1]
    with np.errstate(invalid="ignore"):  # NaN and infinity become numbers that they are not equal to
        whole_numbers = array.astype(np.int64)
    if (whole_numbers != array).any() or (whole_numbers < 0).any() or entries > TOTAL:
        raise EdgeError(f"counts are whole numbers from 0 up in rows of at most {TOTAL}")
    weight = 2 * whole_numbers + 1
    whole, rest = np.divmod(weight * (TOTAL - entries), weight.sum(axis=-1, keepdims=True))
    left = TOTAL - entries - whole.sum(axis=-1, keepdims=True)
    order = np.argsort(-rest, axis=-1, kind="stable")
    rank = np.argsort(order, axis=-1, kind="stable")
    frequencies: NDArray[np.uint32] = (1 + whole + (rank < left)).astype(np.uint32)
    return frequencies

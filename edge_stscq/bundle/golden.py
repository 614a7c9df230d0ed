"""Golden vectors: pictures, the tokens that the artifact gave at export, and the bytes that these tokens are coded to.

The tokens tell whether a runtime computes the same on another machine; the payloads tell whoever ports the entropy
coder whether group and tokens become the same bytes there.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray

from edge_stscq._files import write_file
from edge_stscq.config.codec import CROP, CodecConfig
from edge_stscq.errors import FrameError
from edge_stscq.stream import CodedFace, FrameCodec

Payloads = tuple[tuple[bytes, ...], ...]
"""By picture, then by number of layers less one."""


@dataclass(frozen=True, eq=False)
class Golden:
    """Pictures and what the artefact answered when it was exported.

    Attributes:
        images: uint8 `[G, 128, 128, 3]`, made by a program; no person is on them.
        groups: int32 `[G]`.
        tokens: int32 `[G, T]`.
        other_groups, other_tokens: as good an answer where it is a tie, elsewhere the same one.
        payloads: `payloads[g][n - 1]` are the entropy-coded bytes of group and tokens of picture `g`, cut after `n`
            layers; None in a bundle of a format before 3.
    """

    images: NDArray[np.uint8]
    groups: NDArray[np.int32]
    tokens: NDArray[np.int32]
    other_groups: NDArray[np.int32]
    other_tokens: NDArray[np.int32]
    payloads: Payloads | None

    def faces(self, layer_ends: Sequence[int]) -> Iterator[list[CodedFace]]:
        """Of each picture its face, cut after 1, 2, ... and all layers."""
        for group, tokens in zip(self.groups.tolist(), self.tokens, strict=True):
            yield [CodedFace(group, tokens[:end], number) for number, end in enumerate(layer_ends, start=1)]

    def spread(self, count: int) -> "Golden":
        """At most `count` of the pictures, evenly spread from the first to the last, with answers and payloads."""
        total = len(self.images)
        kept = sorted({round(place) for place in np.linspace(0, total - 1, min(count, total)).tolist()})
        payloads = None if self.payloads is None else tuple(self.payloads[place] for place in kept)
        arrays = {name: part[kept] for name, part in vars(self).items() if name != "payloads"}
        return Golden(**arrays, payloads=payloads)

    def with_payloads(self, frames: FrameCodec, layer_ends: Sequence[int]) -> "Golden":
        """The same vectors with the payloads that `frames` makes of their tokens."""
        coded = tuple(tuple(frames.payload(face) for face in faces) for faces in self.faces(layer_ends))
        return replace(self, payloads=coded)

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, NDArray[Any]], config: CodecConfig, *, payloads: bool) -> "Golden":
        """Golden vectors from the content of their file.

        Args:
            payloads: whether there must be payloads; without, ties may be missing, too.

        Raises:
            ValueError: they do not fit the model.
        """
        tensors = dict(tensors)
        if not payloads:
            for name in {"groups", "tokens"} & tensors.keys():
                tensors.setdefault(f"other_{name}", tensors[name])
        count = next(iter(tensors.get("images", np.empty(0)).shape), 0)
        groups, tokens = (np.dtype(np.int32), (count,)), (np.dtype(np.int32), (count, config.tokens))
        expected: dict[str, Any] = {
            "images": (np.dtype(np.uint8), (count, CROP, CROP, 3)),
            "groups": groups, "tokens": tokens, "other_groups": groups, "other_tokens": tokens,
        }  # fmt: skip
        if payloads:
            expected["payload_lengths"] = np.dtype(np.int32), (count, len(config.layers))
            expected["payloads"] = np.dtype(np.uint8), (tensors.get("payloads", np.empty(0)).size,)
        if count == 0 or {name: (array.dtype, array.shape) for name, array in tensors.items()} != expected:
            raise ValueError("no golden vectors of this model")
        found = _split(tensors.pop("payloads"), tensors.pop("payload_lengths")) if payloads else None
        return cls(**tensors, payloads=found)

    def save(self, path: Path) -> None:
        """Write a safetensors file, in one step and with the same bytes every time."""
        tensors = {name: np.ascontiguousarray(a) for name, a in vars(self).items() if name != "payloads"}
        if self.payloads is not None:
            flat = b"".join(one for picture in self.payloads for one in picture)
            lengths = [[len(one) for one in picture] for picture in self.payloads]
            tensors |= {"payloads": np.frombuffer(flat, np.uint8), "payload_lengths": np.array(lengths, np.int32)}
        write_file(path, safetensors.numpy.save(tensors))


def _split(flat: NDArray[np.uint8], lengths: NDArray[np.int32]) -> Payloads:
    """Payloads that lie one after the other, picture by picture, by their lengths `[G, L]`."""
    if lengths.min() < 0 or lengths.sum() != len(flat):
        raise ValueError("the lengths are not those of the payloads")
    ends = accumulate(lengths.flatten().tolist(), initial=0)
    parts = iter([flat[start:end].tobytes() for start, end in pairwise(ends)])
    return tuple(tuple(next(parts) for _ in row) for row in lengths)


def reads_back(frames: FrameCodec, face: CodedFace) -> bool:
    """True if a face is decoded from its own payload."""
    try:
        return frames.coder.decode(frames.payload(face), face.layers) == face
    except FrameError:
        return False

"""Self-test: an artifact on this machine must give the tokens it gave when it was exported, and these the same bytes.

Golden vectors travel in the bundle. A hash says that the file is the same; only running it says that the runtime and
the processor compute the same from it. An answer is right if it is the golden one or, at a tie, the other one that the
golden vectors name. A picture that went to the other group has other codebooks, so that its tokens are not judged.

The entropy coder is replayed on the golden tokens, cut after each layer: they must become the golden payloads and be
read back from them. Whatever the artifact answered, this is exact.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from edge_stscq.bundle.bundle import Bundle
from edge_stscq.bundle.golden import Golden, reads_back
from edge_stscq.config.codec import CodecConfig


@dataclass(frozen=True)
class Difference:
    """First place where an answer left the golden one.

    Attributes:
        tensor: "groups", "tokens" or "payloads"; `index` counts within it: picture, then position or layer.
        expected, found: index of a group or codebook entry; of a payload its bytes in hex.
        place: what a token codes, e.g. "identity, basic layer", which tells the part of the graph; the last layer of a
            payload; empty for a group.
    """

    tensor: str
    index: tuple[int, ...]
    expected: int | str
    found: int | str
    place: str = ""

    def __str__(self) -> str:
        place = f" ({self.place})" if self.place else ""
        return f"{self.tensor}{list(self.index)}{place} is {self.found}, expected {self.expected}"


@dataclass(frozen=True)
class SelfTest:
    """Result of replaying the golden vectors.

    Attributes:
        vectors: pictures replayed.
        groups_equal: pictures whose group agrees.
        tokens_equal: tokens that agree, of `vectors * T`.
        tokens: `vectors * T`.
        ties: tokens that differ and are right all the same, the pictures' at a tie between groups included.
        payloads_equal: payloads that the golden tokens become and are read back from, of `payloads`.
        payloads: golden pictures times layers; 0 in a bundle of a format before 3.
        first: the first wrong answer, groups before tokens before payloads; None when there is none.
    """

    vectors: int
    groups_equal: int
    tokens_equal: int
    tokens: int
    ties: int
    payloads_equal: int
    payloads: int
    first: Difference | None

    @property
    def passed(self) -> bool:
        return self.first is None


class Encoder(Protocol):
    """Something that codes one crop, such as a `DeviceEncoder`."""

    def run(self, image: NDArray[np.uint8]) -> tuple[int, NDArray[np.int32]]:
        """Group and all tokens int32 `[T]` of one crop, uint8 `[128, 128, 3]` RGB."""


def selftest(bundle: Bundle, encoder: Encoder, golden: Golden | None = None) -> SelfTest:
    """Run golden pictures through `encoder`, compare group and tokens, and code the golden tokens once more.

    Args:
        golden: the vectors to replay, all of the bundle's if None.
    """
    golden = bundle.golden if golden is None else golden
    answers = [encoder.run(image) for image in golden.images]
    groups = np.array([group for group, _ in answers], np.int32)
    tokens = np.stack([tokens for _, tokens in answers])
    same_group, same = groups == golden.groups, tokens == golden.tokens
    wrong_group = ~same_group & (groups != golden.other_groups)
    wrong = same_group[:, None] & ~same & (tokens != golden.other_tokens)
    first = _first("groups", wrong_group, golden.groups, groups) or _first("tokens", wrong, golden.tokens, tokens)
    if first is not None and first.tensor == "tokens":
        first = replace(first, place=_places(bundle.config)[first.index[1]])
    wrong_payloads = list(_wrong_payloads(bundle, golden))
    payloads = len(golden.payloads or ()) * len(bundle.config.layers)
    equal = same & same_group[:, None]
    return SelfTest(
        vectors=len(answers),
        groups_equal=int(same_group.sum()),
        tokens_equal=int(equal.sum()),
        tokens=tokens.size,
        ties=int((~equal & ~wrong & ~wrong_group[:, None]).sum()),
        payloads_equal=payloads - len(wrong_payloads),
        payloads=payloads,
        first=first or next(iter(wrong_payloads), None),
    )


def _first(
    tensor: str, wrong: NDArray[np.bool_], expected: NDArray[np.int32], found: NDArray[np.int32]
) -> Difference | None:
    indices = np.argwhere(wrong)
    if not len(indices):
        return None
    index = tuple(indices[0].tolist())
    return Difference(tensor, index, int(expected[index]), int(found[index]))


def _wrong_payloads(bundle: Bundle, golden: Golden) -> Iterator[Difference]:
    """Golden payloads that the golden tokens do not become here, or are not read back from."""
    layers = bundle.config.layers
    if golden.payloads is None:
        return
    for picture, faces in enumerate(golden.faces(bundle.config.layer_ends)):
        for number, (face, expected) in enumerate(zip(faces, golden.payloads[picture], strict=True)):
            found = bundle.frames.payload(face)
            index, place = (picture, number), f"up to the {layers[number].name} layer"
            if found != expected:
                yield Difference("payloads", index, expected.hex(), found.hex(), place)
            elif not reads_back(bundle.frames, face):
                yield Difference("payloads", index, expected.hex(), "read as another face", place)


def _places(config: CodecConfig) -> list[str]:
    """Meaning of each of the T tokens."""
    found = []
    for layer in config.layers:
        found += [f"identity, {layer.name} layer"] * layer.identity
        found += [f"spatial, {layer.name} layer"] * layer.spatial
    return found

"""Does this artefact, on this machine, still give the tokens it gave when it was exported?

Golden vectors travel in the bundle. A hash says that the file is the same; only running it says that the runtime and
the processor compute the same from it. An answer is right if it is the golden one or, at a tie, the other one that the
golden vectors name. A picture that went to the other group has other codebooks, so that its tokens are not judged.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from edge_stscq.codec.config import CodecConfig
from edge_stscq.device.bundle import Bundle
from edge_stscq.device.encoder import DeviceEncoder


@dataclass(frozen=True)
class Difference:
    """Where an answer first left the golden one.

    Attributes:
        tensor: "groups" or "tokens"; `index` counts within it.
        place: what a token codes, e.g. "identity, basic layer", which tells the part of the graph; empty for a group.
    """

    tensor: str
    index: tuple[int, ...]
    expected: int
    found: int
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
        first: the first wrong answer, groups before tokens; None when there is none.
    """

    vectors: int
    groups_equal: int
    tokens_equal: int
    tokens: int
    ties: int
    first: Difference | None

    @property
    def passed(self) -> bool:
        return self.first is None


def selftest(bundle: Bundle, encoder: DeviceEncoder) -> SelfTest:
    """Run every golden picture through `encoder` and compare group and tokens."""
    golden = bundle.golden
    answers = [encoder.run(image) for image in golden.images]
    groups = np.array([group for group, _ in answers], np.int32)
    tokens = np.stack([tokens for _, tokens in answers])
    same_group, same = groups == golden.groups, tokens == golden.tokens
    wrong_group = ~same_group & (groups != golden.other_groups)
    wrong = same_group[:, None] & ~same & (tokens != golden.other_tokens)
    first = _first("groups", wrong_group, golden.groups, groups) or _first("tokens", wrong, golden.tokens, tokens)
    if first is not None and first.tensor == "tokens":
        first = replace(first, place=_places(bundle.config)[first.index[1]])
    equal = same & same_group[:, None]
    return SelfTest(
        vectors=len(answers),
        groups_equal=int(same_group.sum()),
        tokens_equal=int(equal.sum()),
        tokens=tokens.size,
        ties=int((~equal & ~wrong & ~wrong_group[:, None]).sum()),
        first=first,
    )


def _first(
    tensor: str, wrong: NDArray[np.bool_], expected: NDArray[np.int32], found: NDArray[np.int32]
) -> Difference | None:
    indices = np.argwhere(wrong)
    if not len(indices):
        return None
    index = tuple(indices[0].tolist())
    return Difference(tensor, index, int(expected[index]), int(found[index]))


def _places(config: CodecConfig) -> list[str]:
    """What each of the T tokens codes."""
    found = []
    for layer in config.layers:
        found += [f"identity, {layer.name} layer"] * layer.identity
        found += [f"spatial, {layer.name} layer"] * layer.spatial
    return found

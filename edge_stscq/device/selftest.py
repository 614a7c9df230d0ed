"""Does this artefact, on this machine, still give the tokens it gave when it was exported?

Golden vectors travel in the bundle. A hash says that the file is the same; only running it says that the runtime and
the processor compute the same from it.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_stscq.device.bundle import Bundle
from edge_stscq.device.encoder import DeviceEncoder


@dataclass(frozen=True)
class Difference:
    """Where an answer first left the golden one. `tensor` is "groups" or "tokens"; `index` counts within it."""

    tensor: str
    index: tuple[int, ...]
    expected: int
    found: int

    def __str__(self) -> str:
        return f"{self.tensor}{list(self.index)} is {self.found}, expected {self.expected}"


@dataclass(frozen=True)
class SelfTest:
    """Result of replaying the golden vectors.

    Attributes:
        vectors: pictures replayed.
        groups_equal: pictures whose group agrees.
        tokens_equal: tokens that agree, of `vectors * T`.
        tokens: `vectors * T`.
        first: the first difference, groups before tokens; None when all agree.
    """

    vectors: int
    groups_equal: int
    tokens_equal: int
    tokens: int
    first: Difference | None

    @property
    def passed(self) -> bool:
        return self.first is None


def selftest(bundle: Bundle, encoder: DeviceEncoder) -> SelfTest:
    """Run every golden picture through `encoder` and compare group and tokens exactly."""
    golden = bundle.golden
    answers = [encoder.run(image) for image in golden.images]
    groups = np.array([group for group, _ in answers], np.int32)
    tokens = np.stack([tokens for _, tokens in answers])
    return SelfTest(
        vectors=len(answers),
        groups_equal=int((groups == golden.groups).sum()),
        tokens_equal=int((tokens == golden.tokens).sum()),
        tokens=tokens.size,
        first=_first("groups", golden.groups, groups) or _first("tokens", golden.tokens, tokens),
    )


def _first(tensor: str, expected: NDArray[np.int32], found: NDArray[np.int32]) -> Difference | None:
    places = np.argwhere(expected != found)
    if not len(places):
        return None
    index = tuple(places[0].tolist())
    return Difference(tensor, index, int(expected[index]), int(found[index]))

"""Controls of the codebooks in closed form: what switching and positions of their own are worth, at equal bytes.

Before any network trains, codebooks of each kind are fitted to nine tenths of the faces and judged on the rest. All
spend the same number of bits up to the end of the first layer, `T log2 K + log2 M`: more groups have fewer entries
there, which costs nothing else, since the coder needs no power of two.
"""

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from edge_stscq.config.codec import CodecConfig
from edge_stscq.training.init.closed_form import BookFit, fit_codebooks, signal_to_noise

_TRIED = (1, 16, 64)
"""Numbers of groups beside the recipe's."""
_HELD_OUT = 10
"""Every so manyeth face is held out."""
_FACES_A_GROUP = 4


class Control(NamedTuple):
    """Signal to quantization noise in dB of one kind of codebooks."""

    name: str
    groups: int
    entries: int
    """Of the first layer."""
    fitted: tuple[float, float]
    """On the faces they were fitted to: of the first layer's identity tokens, and of all tokens."""
    held_out: tuple[float, float]
    """The same on faces that they were not fitted to."""

    def __str__(self) -> str:
        figures = "first layer {:.2f} dB, all {:.2f} dB"
        held, own = figures.format(*self.held_out), figures.format(*self.fitted)
        return f"{self.name}, {self.groups} x {self.entries} entries: {held} held out; {own} on its own faces"


def equal_entries(config: CodecConfig, groups: int) -> int:
    """Entries of the first layer with which so many groups spend the bits that the codec's own groups spend on it."""
    first = config.layers[0]
    bits = first.tokens * math.log2(first.entries or config.entries) + math.log2(config.groups)
    return min(config.entries, round(2 ** ((bits - math.log2(groups)) / first.tokens)))


def controls(z: Tensor, config: CodecConfig, plan: BookFit, weight: Tensor) -> Iterator[Control]:
    """Every kind of codebooks on the same faces.

    Args:
        z: token vectors [2 n, T, D] of n faces, each followed by its mirror image.
        weight: how often each row counts, [2 n].
    """
    held = (torch.arange(len(z)) // 2) % _HELD_OUT == 0
    own, other, mass = z[~held], z[held], weight[~held]
    identity = config.layers[0].identity

    def judged(name: str, books: Tensor, entries: int) -> Control:
        figures = (signal_to_noise(books, part, identity) for part in (own, other))
        return Control(name, len(books), entries, *figures)

    single = equal_entries(config, 1)
    shared = config.model_copy(update={"groups": 1, "token_specific": False, "entries": single})
    books = fit_codebooks(own, shared, plan, mass).books.expand(-1, z.shape[1], -1, -1)
    yield judged("one codebook shared by all positions", books, single)
    for groups in sorted({*_TRIED, config.groups}):
        entries = equal_entries(config, groups)
        if entries < 2 or len(own) < 2 * _FACES_A_GROUP * groups:
            continue
        first = config.layers[0].model_copy(update={"entries": entries})
        changed = config.model_copy(update={"groups": groups, "layers": (first, *config.layers[1:])})
        if groups == 1:
            yield judged("a codebook for each position", fit_codebooks(own, changed, plan, mass).books, entries)
            continue
        for free, name in ((True, "free groups"), (False, "groups that share entries")):
            if not free or groups == config.groups:
                kind = plan._replace(free=free)
                yield judged(name, fit_codebooks(own, changed, kind, mass).books, entries)

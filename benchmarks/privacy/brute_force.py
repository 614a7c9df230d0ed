"""Tokens out of a template by trying codewords, with the key known.

The basic layer has some 2^129 streams, but each of its 16 tokens says its own part of the embedding, so an attacker
need not try them together: he inverts the template, takes for every position the entry nearest to what he found, and
improves one position after another by the scheme's own score, all its entries at a time.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.privacy.inversion import Attack
from benchmarks.privacy.subjects import fresh_keys, rows, stored
from edge_stscq.bundle.model_folder import load_projection
from edge_stscq.codec.model import Codec
from edge_stscq.privacy import Scheme
from edge_stscq.stream import Codes

SWEEPS = 3
Score = Callable[[NDArray[np.float32]], NDArray[np.float32]]


class BasicLayer:
    """Tokens of the basic layer to embeddings, a position at a time."""

    def __init__(self, codec: Codec) -> None:
        assert codec.folder is not None
        config, identity = codec.config, load_projection(codec.folder)
        self.count, entries = config.layer_ends[0], config.layers[0].entries or config.entries
        columns = identity.projection[:, : self.count * config.dim]
        center = ((identity.center - identity.mean) @ columns).reshape(self.count, -1)
        projection = columns.reshape(-1, self.count, config.dim)
        deviations = codec.books[:, : self.count, :entries] - center[None, :, None]
        self.parts: NDArray[np.float32] = np.einsum("mtkd,etd->mtke", deviations, projection)
        """Share of each entry in an embedding, before it is made a unit vector, `[M, T, K, 128]`."""

    def embed(self, group: int, tokens: NDArray[np.integer]) -> NDArray[np.float32]:
        """The sum `[128]` of the entries' parts."""
        return self.parts[group, np.arange(self.count), tokens].sum(0)


def brute_force(codec: Codec, codes: Codes, attack: Attack) -> Mapping[str, float]:
    """Share of tokens read back from templates of the basic layer, and cosine of the faces found to the true ones."""
    layer, scheme = BasicLayer(codec), attack.scheme
    true = codec.embed(codes, 1)
    keys = fresh_keys("searched for", len(true))
    values = stored(scheme, true, keys)
    guesses, expanded = attack.invert(values, keys), rows(scheme, values, keys)
    right, cosines = [], []
    for index, (guess, row) in enumerate(zip(guesses, expanded, strict=True)):
        score = partial(_many_scores, scheme, row)
        found = [search(layer, group, guess, score) for group in range(len(layer.parts))]
        _, group, tokens = max((score, group, tokens) for group, (score, tokens) in enumerate(found))
        matching = np.equal(tokens, codes.tokens[index, : layer.count]) & (group == codes.group[index])
        right.append(float(matching.mean()))
        whole = layer.embed(group, np.array(tokens))
        cosines.append(float(whole @ true[index] / np.linalg.norm(whole)))
    groups, positions, entries, _ = layer.parts.shape
    return {
        "faces": len(true),
        "tokens_read": float(np.mean(right)),
        "whole_faces_read": float(np.mean(np.array(right) == 1)),
        "cosine": float(np.mean(cosines)),
        "bits_of_all_streams": float(np.log2(groups) + positions * np.log2(entries)),
        "codewords_tried_a_face": (SWEEPS + 1) * groups * positions * entries,
    }


def search(
    layer: BasicLayer, group: int, guess: NDArray[np.float32], score: Score
) -> tuple[float, list[int]]:  # fmt: skip
    """Best score of a codebook group's streams found, and its tokens.

    Args:
        guess: unit embedding `[128]` to begin at.
        score: scores `[N]` of unit embeddings `[N, 128]`.
    """
    parts = layer.parts[group]
    length = float(np.sqrt(np.square(parts).sum(2).mean(1).sum()))  # of a typical embedding that is no unit vector yet
    tokens = [int((np.square(entries).sum(1) - 2 * length * entries @ guess).argmin()) for entries in parts]
    best = -np.inf
    for _ in range(SWEEPS):
        for position in range(layer.count):
            rest = layer.embed(group, np.array(tokens)) - parts[position, tokens[position]]
            candidates = rest + parts[position]
            units = candidates / np.linalg.norm(candidates, axis=1, keepdims=True)
            scores = score(units)
            tokens[position], best = int(scores.argmax()), float(scores.max())
    return best, tokens


def _many_scores(scheme: Scheme[Any], row: NDArray[np.float32], units: NDArray[np.float32]) -> NDArray[np.float32]:
    """Scores of many embeddings against one row."""
    return np.array([scheme.scores(row[None], unit.astype(np.float64))[0] for unit in units], np.float32)

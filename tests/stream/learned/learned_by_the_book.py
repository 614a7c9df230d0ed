"""Frequencies of the learned coder as docs/spec/wire.md states them: Python's whole numbers, one after the other."""

from typing import Any

TOTAL = 1 << 16


def power(place: int) -> int:
    """The largest whole number whose 256th power is at most `2^(3840 - place)`; 0 from 3840 on."""
    found = 0
    for bit in reversed(range(16)):
        if place < 3840 and (found + (1 << bit)) ** 256 <= 1 << 3840 - place:
            found += 1 << bit
    return found


POWERS = [power(place) for place in range(3841)]


def frequencies(weights: dict[str, Any], static: list[int], group: int, tokens: list[int], position: int) -> list[int]:
    """Frequencies of the token at a position, of a face whose tokens of the layers below are `tokens`.

    Args:
        weights: `words`, `bias`, `shifts` and `weights.2`, ... as nested lists.
        static: row of the static tables.
    """
    words, dim = weights["words"][group], len(weights["words"][0][0][0])
    sums, start = list(weights["bias"][group][position]), len(words)
    layers = [weights[f"weights.{number}"] for number in range(2, len(weights) - 1)]
    start -= sum(map(len, layers))
    for matrix in layers:
        if start <= position < start + len(matrix):
            for form in range(2 * dim):
                for below in range(start):
                    word = words[below][tokens[below]]
                    sums[form] += sum(matrix[position - start][form][below][d] * word[d] for d in range(dim))
        start += len(matrix)
    tilts = [
        min(max(one >> shift, -4095), 4095) for one, shift in zip(sums, weights["shifts"][position], strict=True)
    ]
    scores = []
    for word in words[position]:
        forms = word + [u * u >> 7 for u in word]
        scores.append(sum(tilt * form for tilt, form in zip(tilts, forms, strict=True)))
    masses = [
        frequency * POWERS[min(max(scores) - score >> 6, 3840)] for frequency, score in zip(static, scores, strict=True)
    ]
    height, entries = max(0, sum(masses).bit_length() - 17), len(masses)
    share = (TOTAL - entries << 15) // (sum(masses) >> height)
    starts = [k + ((sum(masses[:k]) >> height) * share >> 15) for k in range(entries)] + [TOTAL]
    return [after - before for before, after in zip(starts, starts[1:], strict=False)]

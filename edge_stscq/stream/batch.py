"""Many messages of the arithmetic coder read at once, to the same symbols as one by one.

`arithmetic.Decoder` holds two numbers of some thousand bits and divides one by the other at every symbol. Four symbols
narrow an interval to whole multiples of `2**-64` of its width, so the quotient of a message's place and the interval's
width, rounded down to 64 bits, decides all four of them exactly. So the long numbers are touched once for four symbols,
message by message, and everything between is numpy's unsigned 64-bit arithmetic on all messages together.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edge_stscq.stream.arithmetic import PRECISION, is_shortest

_DIGIT = np.uint64(PRECISION)
STRIDE = 4
"""Symbols that one quotient decides: `STRIDE * PRECISION` bits are 64."""


class BatchDecoder:
    """Reads messages of one group symbol and up to `T` tokens.

    Args:
        frequencies: uint32 `[M, T, K]`, each row at least 1 and summing to `2**16`; `K` is 2 or more.
        group_frequencies: uint32 `[M]`, likewise.
    """

    def __init__(self, frequencies: NDArray[np.uint32], group_frequencies: NDArray[np.uint32]) -> None:
        groups, tokens, self._entries = frequencies.shape
        ends = np.cumsum(frequencies, axis=-1, dtype=np.uint64)
        of_group = np.arange(groups, dtype=np.uint64)[:, None, None] << _DIGIT
        # For each position the rows of all groups behind each other, so that one search finds any symbol.
        self._ends, self._starts, self._frequencies = (
            list(np.ascontiguousarray(rows.transpose(1, 0, 2)).reshape(tokens, -1))
            for rows in (ends + of_group, ends - frequencies, frequencies.astype(np.uint64))
        )
        self._group_starts = np.concatenate([[0], np.cumsum(group_frequencies)]).astype(np.uint64)

    def decode(
        self, payloads: Sequence[bytes], count: int
    ) -> tuple[NDArray[np.intp], NDArray[np.uint16], list[bool]]:
        """Groups `[N]`, tokens `[N, count]`, and of each payload whether it is the one that an encoder makes.

        Args:
            payloads: at most `2 * (1 + count)` bytes each.
        """
        number = len(payloads)
        padded = b"".join(payload.ljust(2 * (1 + count), b"\0") for payload in payloads)
        digits = np.frombuffer(padded, ">u2").reshape(number, 1 + count).astype(np.uint64)
        group = np.searchsorted(self._group_starts, digits[:, 0], "right") - 1
        offsets = (digits[:, 0] - self._group_starts[group]).tolist()
        widths = (self._group_starts[group + 1] - self._group_starts[group]).tolist()
        group_bits = group.astype(np.uint64) << _DIGIT
        tokens = np.empty((count, number), np.uint16)
        for at in range(0, count, STRIDE):
            some = min(STRIDE, count - at)
            bits = PRECISION * some
            joined = digits[:, 1 + at]
            for place in range(2 + at, 1 + at + some):
                joined = joined << _DIGIT | digits[:, place]
            offsets = [offset << bits | digit for offset, digit in zip(offsets, joined.tolist(), strict=True)]
            slots = [offset // width for offset, width in zip(offsets, widths, strict=True)]
            low, wide = self._narrow(np.array(slots, np.uint64), group_bits, at, some, tokens)
            offsets = [
                offset - width * start for offset, width, start in zip(offsets, widths, low.tolist(), strict=True)
            ]
            widths = [width * more for width, more in zip(widths, wide.tolist(), strict=True)]
        tokens -= (group * self._entries).astype(np.uint16)
        symbols = 1 + count
        whole = [
            is_shortest(payload, symbols, offset, width)
            for payload, offset, width in zip(payloads, offsets, widths, strict=True)
        ]
        return group, np.ascontiguousarray(tokens.T), whole

    def _narrow(
        self, slots: NDArray[np.uint64], group_bits: NDArray[np.uint64], at: int, some: int,
        tokens: NDArray[np.uint16],
    ) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:  # fmt: skip
        """Read the tokens `at`, `at + 1`, ... of all messages; low ends and widths of the intervals that they leave.

        Args:
            slots: places of the messages in their intervals, in units of `2**(-16 * some)` of the width.
            group_bits: group of each, above a slot's bits.
            tokens: where they are written, as if the entries of all groups were numbered through.
        """
        low, wide, rest = np.zeros_like(slots), np.ones_like(slots), slots
        for place in range(at, at + some):
            unit = wide << np.uint64(PRECISION * (at + some - 1 - place))
            entry = self._ends[place].searchsorted(rest // unit + group_bits, "right")
            start = self._starts[place].take(entry)
            rest = rest - start * unit
            low = (low << _DIGIT) + wide * start
            wide = wide * self._frequencies[place].take(entry)
            tokens[place] = entry
        return low, wide

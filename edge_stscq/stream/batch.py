"""Many messages of the arithmetic coder read at once, to the same symbols as one by one.

`arithmetic.Decoder` holds two numbers of some thousand bits and divides one by the other at every symbol. Four symbols
narrow an interval to whole multiples of `2**-64` of its width, so the quotient of a message's place and the interval's
width, rounded down to 64 bits, decides all four of them exactly. So the long numbers are touched once for four symbols,
message by message, and everything between is numpy's unsigned 64-bit arithmetic on all messages together.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edge_stscq.stream.arithmetic import PRECISION, TOTAL, is_shortest

STRIDE = 4
"""Symbols that one quotient decides: `STRIDE * PRECISION` bits are 64."""


class BatchDecoder:
    """Reads messages of one group symbol and up to `T` tokens.

    Args:
        frequencies: uint32 `[M, T, K]`, each row at least 1 and summing to `2**16`; `K` is 2 or more.
        group_frequencies: uint32 `[M]`, likewise.
    """

    def __init__(self, frequencies: NDArray[np.uint32], group_frequencies: NDArray[np.uint32]) -> None:
        groups, self._tokens, entries = frequencies.shape
        self._size = 1 << (entries - 1).bit_length()
        starts = np.full((groups, self._tokens, self._size + 1), TOTAL, np.uint64)
        starts[..., 0] = 0
        np.cumsum(frequencies, axis=-1, out=starts[..., 1 : entries + 1])
        self._starts = starts.reshape(-1)
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
        base = group * (self._tokens * (self._size + 1))
        tokens = np.empty((number, count), np.uint16)
        for at in range(0, count, STRIDE):
            some = min(STRIDE, count - at)
            bits = PRECISION * some
            joined = digits[:, 1 + at]
            for place in range(2 + at, 1 + at + some):
                joined = joined << np.uint64(PRECISION) | digits[:, place]
            offsets = [offset << bits | digit for offset, digit in zip(offsets, joined.tolist(), strict=True)]
            slots = [offset // width for offset, width in zip(offsets, widths, strict=True)]
            low, wide = self._narrow(np.array(slots, np.uint64), base, at, some, tokens)
            offsets = [
                offset - width * start for offset, width, start in zip(offsets, widths, low.tolist(), strict=True)
            ]
            widths = [width * more for width, more in zip(widths, wide.tolist(), strict=True)]
        symbols = 1 + count
        whole = [
            is_shortest(payload, symbols, offset, width)
            for payload, offset, width in zip(payloads, offsets, widths, strict=True)
        ]
        return group, tokens, whole

    def _narrow(
        self, slots: NDArray[np.uint64], base: NDArray[np.intp], at: int, some: int, tokens: NDArray[np.uint16]
    ) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
        """Read the tokens `at`, `at + 1`, ... of all messages; low ends and widths of the intervals that they leave.

        Args:
            slots: places of the messages in their intervals, in units of `2**(-16 * some)` of the width.
            tokens: where they are written.
        """
        low, wide, rest = np.zeros_like(slots), np.ones_like(slots), slots
        for place in range(some):
            unit = wide << np.uint64(PRECISION * (some - 1 - place))
            row = base + (at + place) * (self._size + 1)
            symbol = self._search(row, rest // unit)
            start = self._starts[row + symbol]
            frequency = self._starts[row + symbol + 1] - start
            rest = rest - start * unit
            low = (low << np.uint64(PRECISION)) + wide * start
            wide = wide * frequency
            tokens[:, at + place] = symbol
        return low, wide

    def _search(self, row: NDArray[np.intp], slot: NDArray[np.uint64]) -> NDArray[np.intp]:
        """The symbol of each slot, by halving."""
        symbol = np.zeros_like(row)
        step = self._size >> 1
        while step:
            further = symbol + step
            symbol = np.where(self._starts[row + further] <= slot, further, symbol)
            step >>= 1
        return symbol

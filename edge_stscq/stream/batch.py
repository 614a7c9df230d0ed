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


def row_size(entries: int) -> int:
    """Length of a filled row: one more than a power of two, so that a search halves it."""
    return (1 << (entries - 1).bit_length()) + 1


def filled(frequencies: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """Cumulative frequencies `[R, row_size(K)]` of rows `[R, K]` that sum to `2**16`, filled up with `2**16`."""
    rows, entries = frequencies.shape
    starts = np.full((rows, row_size(entries)), TOTAL, np.uint32)
    starts[:, 0] = 0
    np.cumsum(frequencies, axis=-1, out=starts[:, 1 : entries + 1])
    return starts


class Messages:
    """Messages of equally many symbols, read side by side.

    Args:
        payloads: at most `2 * symbols` bytes each.
        symbols: of each of them, to be popped in one or more steps.
    """

    def __init__(self, payloads: Sequence[bytes], symbols: int) -> None:
        self._payloads, self._symbols, self._read = payloads, symbols, 0
        padded = b"".join(payload.ljust(2 * symbols, b"\0") for payload in payloads)
        self._digits = np.frombuffer(padded, ">u2").reshape(len(payloads), symbols).astype(np.uint64)
        self._offsets, self._widths = [0] * len(payloads), [1] * len(payloads)

    def pop(self, starts: NDArray[np.uint32], rows: NDArray[np.intp]) -> NDArray[np.uint16]:
        """The next symbols `[N, n]` of all messages.

        Args:
            starts: filled rows `[R, size]`.
            rows: which of them each symbol is coded with, `[N, n]`.
        """
        number, count = rows.shape
        symbols, size = np.empty((number, count), np.uint16), starts.shape[-1]
        flat, bases = starts.reshape(-1), rows * size
        for at in range(0, count, STRIDE):
            some = min(STRIDE, count - at)
            slots = self._slots(some)
            low, wide, rest = np.zeros_like(slots), np.ones_like(slots), slots
            for place in range(some):
                unit = wide << np.uint64(PRECISION * (some - 1 - place))
                row = bases[:, at + place]
                symbol = _search(flat, row, size >> 1, rest // unit)
                start = flat[row + symbol].astype(np.uint64)
                frequency = flat[row + symbol + 1] - start
                rest = rest - start * unit
                low = (low << np.uint64(PRECISION)) + wide * start
                wide = wide * frequency
                symbols[:, at + place] = symbol
            self._narrow(low, wide)
        return symbols

    def whole(self) -> list[bool]:
        """Of each message, when all symbols are popped, whether it is the one that an encoder makes of them."""
        return [
            is_shortest(payload, self._symbols, offset, width)
            for payload, offset, width in zip(self._payloads, self._offsets, self._widths, strict=True)
        ]

    def _slots(self, some: int) -> NDArray[np.uint64]:
        """Places of the messages in their intervals, in units of `2**(-16 * some)` of the width."""
        joined = self._digits[:, self._read]
        for place in range(self._read + 1, self._read + some):
            joined = joined << np.uint64(PRECISION) | self._digits[:, place]
        self._read += some
        bits = PRECISION * some
        self._offsets = [
            offset << bits | digit for offset, digit in zip(self._offsets, joined.tolist(), strict=True)
        ]
        slots = [offset // width for offset, width in zip(self._offsets, self._widths, strict=True)]
        return np.array(slots, np.uint64)

    def _narrow(self, low: NDArray[np.uint64], wide: NDArray[np.uint64]) -> None:
        """Take the parts of the intervals that begin at `low` and are `wide` units."""
        self._offsets = [
            offset - width * start
            for offset, width, start in zip(self._offsets, self._widths, low.tolist(), strict=True)
        ]
        self._widths = [width * more for width, more in zip(self._widths, wide.tolist(), strict=True)]


def _search(
    starts: NDArray[np.uint32], row: NDArray[np.intp], half: int, slot: NDArray[np.uint64]
) -> NDArray[np.intp]:
    """The symbol of each slot, by halving rows that begin at `row`."""
    symbol = np.zeros_like(row)
    while half:
        further = symbol + half
        symbol = np.where(starts[row + further] <= slot, further, symbol)
        half >>= 1
    return symbol

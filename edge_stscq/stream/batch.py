"""Many messages of the arithmetic coder read at once, to the same symbols as one by one.

`arithmetic.Decoder` holds two numbers of some thousand bits and divides one by the other at every symbol. Four symbols
narrow an interval to whole multiples of `2**-64` of its width, so the quotient of a message's place and the interval's
width, rounded down to 64 bits, decides all four of them exactly. So the long numbers are touched once for four symbols,
message by message, and everything between is numpy's unsigned 64-bit arithmetic on all messages together.
"""

from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from edge_stscq.stream.arithmetic import PRECISION, is_shortest

_DIGIT = np.uint64(PRECISION)
STRIDE = 4
"""Symbols that one quotient decides: `STRIDE * PRECISION` bits are 64."""

Lookup: TypeAlias = Callable[[int, NDArray[np.uint64]], tuple[NDArray[np.intp], NDArray[np.uint64], NDArray[np.uint64]]]
"""Of a position and the slots `[N]` that the messages have there: symbols, starts of their slots, and frequencies."""


class GroupRows:
    """Rows of frequencies that depend on group and position alone.

    The rows of all groups lie behind each other for each position, so that one search finds any symbol.

    Args:
        frequencies: uint32 `[M, T, K]`, each at least 1, each row summing to `2**16`.
    """

    def __init__(self, frequencies: NDArray[np.uint32]) -> None:
        groups, positions, self._entries = frequencies.shape
        ends = np.cumsum(frequencies, axis=-1, dtype=np.uint64)
        of_group = np.arange(groups, dtype=np.uint64)[:, None, None] << _DIGIT
        self._ends, self._starts, self._frequencies = (
            list(np.ascontiguousarray(rows.transpose(1, 0, 2)).reshape(positions, -1))
            for rows in (ends + of_group, ends - frequencies, frequencies.astype(np.uint64))
        )

    def lookup(self, groups: NDArray[np.intp]) -> Lookup:
        """Look symbols up in the rows of the messages' groups `[N]`."""
        bits, first = groups.astype(np.uint64) << _DIGIT, groups * self._entries

        def find(
            position: int, slots: NDArray[np.uint64]
        ) -> tuple[NDArray[np.intp], NDArray[np.uint64], NDArray[np.uint64]]:
            entry = self._ends[position].searchsorted(slots + bits, "right")
            return entry - first, self._starts[position].take(entry), self._frequencies[position].take(entry)

        return find


def row_size(entries: int) -> int:
    """Length of a filled row: one more than a power of two, so that a search halves it."""
    return (1 << (entries - 1).bit_length()) + 1


def own_rows(starts: NDArray[np.uint32], rows: NDArray[np.intp]) -> Lookup:
    """Look symbols up in rows of each message's own.

    Args:
        starts: cumulative frequencies `[R, row_size(K)]`, filled up with `2**16`.
        rows: which of them each symbol is coded with, `[N, n]`.
    """
    flat, bases, half = starts.reshape(-1), rows * starts.shape[-1], starts.shape[-1] >> 1

    def find(
        position: int, slots: NDArray[np.uint64]
    ) -> tuple[NDArray[np.intp], NDArray[np.uint64], NDArray[np.uint64]]:
        row = bases[:, position]
        symbol = _search(flat, row, half, slots)
        start = flat[row + symbol].astype(np.uint64)
        return symbol, start, flat[row + symbol + 1] - start

    return find


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

    def pop(self, count: int, find: Lookup) -> NDArray[np.uint16]:
        """The next symbols `[N, count]` of all messages, at the positions 0, 1, ... of a lookup."""
        symbols = np.empty((count, len(self._payloads)), np.uint16)
        for at in range(0, count, STRIDE):
            some = min(STRIDE, count - at)
            slots = self._slots(some)
            low, wide, rest = np.zeros_like(slots), np.ones_like(slots), slots
            for position in range(at, at + some):
                unit = wide << np.uint64(PRECISION * (at + some - 1 - position))
                symbols[position], start, frequency = find(position, rest // unit)
                rest = rest - start * unit
                low = (low << _DIGIT) + wide * start
                wide = wide * frequency
            self._narrow(low, wide)
        return np.ascontiguousarray(symbols.T)

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
            joined = joined << _DIGIT | self._digits[:, place]
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

"""Exact arithmetic coding: the whole message is one interval of the unit line, held as two Python integers.

A symbol with frequency `f` out of `2**16` and cumulative frequency `c` narrows the interval `[low, low + width)` to

    [low + width * c / 2**16, low + width * (c + f) / 2**16)

(Rissanen & Langdon 1979). Textbook coders round these numbers so that they fit a register and renormalise as they go,
and lose a little at every symbol and up to a word at the end. A face is at most a few hundred symbols, so here nothing
is rounded: after `n` symbols both numbers are counts of `2**(-16 n)`, some thousand bits long, and the message is the
shortest byte string `B` whose binary fraction `0.B` lies in the interval. With `I = -log2 P(message)` it has at most
`ceil(I / 8)` bytes, fewer when a shorter string happens to lie inside.

The string carries no end mark and no length: whoever stores it keeps its length, and whoever reads it knows how many
symbols to ask for. Every byte string decodes to *some* message, so damage must be detected by other means; but each
message has exactly one string that `Encoder` makes, which lets a reader refuse all others.

Only integers take part, so the result is the same on every machine.
"""

import struct
from bisect import bisect_right
from collections.abc import Iterable, Sequence

PRECISION = 16
"""Bits of a symbol's probability: each row of frequencies sums to `2**PRECISION`."""
TOTAL = 1 << PRECISION


class Encoder:
    """Narrows one interval symbol by symbol.

    A *row* is the cumulative form of one frequency table: `[0, f0, f0 + f1, ..., 2**16]`, strictly increasing, so that
    symbol `s` has the slots `row[s] <= slot < row[s + 1]`.
    """

    def __init__(self) -> None:
        self._low = 0
        self._width = 1
        self._bits = 0

    def push(self, symbol: int, row: Sequence[int]) -> None:
        """Append `symbol`, `0 <= symbol < len(row) - 1`."""
        self.push_all((row[symbol],), (row[symbol + 1],))

    def push_all(self, starts: Sequence[int], ends: Sequence[int]) -> None:
        """Append symbols by the slots that they have, `start <= slot < end`."""
        for start, end in zip(starts, ends, strict=True):
            self._low = (self._low << PRECISION) + self._width * start
            self._width *= end - start
            self._bits += PRECISION

    def finish(self) -> bytes:
        """The shortest byte string inside the interval, and of those the smallest."""
        size = sufficient_bytes(self._bits, self._width)
        step = self._bits - 8 * size
        while size and _ceil(self._low, step + 8) < self._low + self._width:
            size, step = size - 1, step + 8
        return (_ceil(self._low, step) >> step).to_bytes(size, "big")


class Decoder:
    """Reads back the symbols of one message, in the order they were pushed, with the same rows.

    Args:
        data: what `Encoder.finish` returned; any byte string of up to `2 * symbols` bytes decodes without an error.
        symbols: how many symbols the message has.
    """

    def __init__(self, data: bytes, symbols: int) -> None:
        missing = 2 * symbols - len(data)
        if missing < 0:
            raise ValueError(f"{len(data)} bytes for {symbols} symbols: at most {2 * symbols}")
        self._data, self._symbols = data, symbols
        self._digits = iter(struct.unpack(f">{symbols}H", data + bytes(missing)))
        # The message's distance from `low`, and the interval's width, in units of the digits read so far.
        self._offset, self._width = 0, 1

    def pop(self, row: Sequence[int]) -> int:
        """The next symbol, coded with `row`."""
        return self.pop_all((row,))[0]

    def pop_all(self, rows: Iterable[Sequence[int]]) -> list[int]:
        """The next symbols, one for each row."""
        offset, width, symbols = self._offset, self._width, list[int]()
        for row, digit in zip(rows, self._digits, strict=False):
            offset = offset << PRECISION | digit
            symbol = bisect_right(row, offset // width) - 1
            start = row[symbol]
            offset -= width * start
            width *= row[symbol + 1] - start
            symbols.append(symbol)
        self._offset, self._width = offset, width
        return symbols

    def is_shortest(self) -> bool:
        """True if `Encoder.finish` makes these very bytes of the symbols popped; ask when all are."""
        return is_shortest(self._data, self._symbols, self._offset, self._width)


def is_shortest(data: bytes, symbols: int, offset: int, width: int) -> bool:
    """True if `Encoder.finish` makes these very bytes.

    Args:
        symbols: of the message.
        offset: distance of the data, filled up with zeros, from the low end of the message's interval.
        width: of that interval, both in units of `2**(-16 * symbols)`.
    """
    size = len(data)
    step = PRECISION * symbols - 8 * size
    low = (int.from_bytes(data, "big") << step) - offset
    return offset >> step == 0 and (size == 0 or _ceil(low, step + 8) >= low + width)


def _ceil(low: int, step: int) -> int:
    """The first number not below `low` whose last `step` bits are zero."""
    return -(-low >> step) << step


def sufficient_bytes(bits: int, width: int) -> int:
    """Bytes that every interval of `width` units of `2**-bits` has room for: `ceil(-log2(width / 2**bits) / 8)`."""
    return -(-(bits - width.bit_length() + 1) // 8)

"""The arithmetic coder: exact, short, and never longer than a range coder on the same probabilities."""

import math
from collections.abc import Sequence
from itertools import product

import constriction
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_stscq.stream.arithmetic import TOTAL, Decoder, Encoder

Message = tuple[list[int], list[list[int]]]
"""Symbols and, for each, a row of its own."""
COIN = [0, TOTAL - 1, TOTAL]


def encode(symbols: Sequence[int], rows: Sequence[list[int]]) -> bytes:
    encoder = Encoder()
    for symbol, row in zip(symbols, rows, strict=True):
        encoder.push(symbol, row)
    return encoder.finish()


def decode(data: bytes, rows: Sequence[list[int]]) -> list[int]:
    decoder = Decoder(data, len(rows))
    return [decoder.pop(row) for row in rows]


def ideal_bits(symbols: Sequence[int], rows: Sequence[list[int]]) -> float:
    return sum(16 - math.log2(row[s + 1] - row[s]) for s, row in zip(symbols, rows, strict=True))


@st.composite
def messages(draw: st.DrawFn) -> Message:
    """Symbols and, for each, a row of its own."""
    rows, symbols = [], []
    for _ in range(draw(st.integers(0, 24))):
        inner = draw(st.sets(st.integers(1, TOTAL - 1), max_size=8))
        rows.append([0, *sorted(inner), TOTAL])
        symbols.append(draw(st.integers(0, len(inner))))
    return symbols, rows


@settings(deadline=None)
@given(messages())
def test_message_comes_back_and_is_within_a_byte_of_ideal(message: Message) -> None:
    symbols, rows = message
    data = encode(symbols, rows)
    decoder = Decoder(data, len(rows))
    assert [decoder.pop(row) for row in rows] == symbols
    assert decoder.is_shortest()
    assert 8 * len(data) < ideal_bits(symbols, rows) + 8


@settings(deadline=None)
@given(messages(), st.binary(max_size=48))
def test_any_bytes_decode_to_a_message_that_codes_no_longer(message: Message, data: bytes) -> None:
    """Every byte string decodes to a message that codes no longer."""
    _, rows = message
    data = data[: 2 * len(rows)]
    decoder = Decoder(data, len(rows))
    symbols = [decoder.pop(row) for row in rows]
    assert decoder.is_shortest() == (encode(symbols, rows) == data)
    assert all(0 <= s < len(row) - 1 for s, row in zip(symbols, rows, strict=True))
    assert len(encode(symbols, rows)) <= len(data)


def test_no_shorter_string_decodes_to_the_message() -> None:
    rows = [[0, 20_000, 21_000, 60_000, TOTAL]] * 4
    shortest: dict[tuple[int, ...], int] = {}
    for size in range(3):
        for string in product(range(256), repeat=size):
            shortest.setdefault(tuple(decode(bytes(string), rows)), size)
    for symbols in product(range(4), repeat=4):
        size = len(encode(symbols, rows))
        assert size == shortest[symbols] if symbols in shortest else size > 2


def test_certain_and_empty_messages_take_no_bytes() -> None:
    assert encode([], []) == b""
    assert encode([0] * 300, [[0, TOTAL]] * 300) == b""
    assert encode([0] * 300, [COIN] * 300) == b""  # 0.007 bits


def test_rarest_message_takes_two_bytes_a_symbol() -> None:
    data = encode([1] * 300, [COIN] * 300)
    assert data == b"\xff" * 600
    assert decode(data, [COIN] * 300) == [1] * 300


def test_more_bytes_than_symbols_can_take_are_refused() -> None:
    with pytest.raises(ValueError, match="at most 4"):
        Decoder(bytes(5), 2)


@pytest.mark.parametrize("alpha", [0.05, 0.3, 1.0, 10.0])
def test_never_longer_than_a_range_coder(alpha: float) -> None:
    random = np.random.default_rng(int(alpha * 100))
    ours = theirs = 0
    for _ in range(40):
        frequencies = 1 + np.floor(random.dirichlet([alpha] * 256, size=64) * (TOTAL - 256)).astype(int)
        frequencies[:, 0] += TOTAL - frequencies.sum(axis=1)
        rows = [[0, *np.cumsum(row).tolist()] for row in frequencies]
        symbols = [int(random.choice(256, p=row / TOTAL)) for row in frequencies]
        coder = constriction.stream.queue.RangeEncoder()
        for symbol, row in zip(symbols, frequencies, strict=True):
            coder.encode(symbol, constriction.stream.model.Categorical(row / TOTAL, perfect=True))
        length = coder.get_compressed().nbytes
        data = encode(symbols, rows)
        assert len(data) <= length
        ours, theirs = ours + len(data), theirs + length
    assert theirs - ours > 40  # a word against a byte at the end: more than a byte a message on average

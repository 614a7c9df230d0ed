"""Frequency tables: what is accepted, and how counts become frequencies."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import ArrayLike

from edge_stscq.errors import EdgeError, FrameError
from edge_stscq.stream import CodedFace, Tables
from edge_stscq.stream import tables as tables_module
from edge_stscq.stream.arithmetic import TOTAL


def frequencies_of(counts: ArrayLike) -> np.ndarray:
    found: np.ndarray = Tables.from_counts(np.asarray(counts)[None, None], [1], (1, 1, 1)).frequencies[0, 0]
    return found


@settings(deadline=None)
@given(arrays.arrays(np.int64, st.integers(1, 300), elements=st.integers(0, 10**9)))
def test_counts_become_positive_frequencies_in_the_same_order(counts: np.ndarray) -> None:
    frequencies = frequencies_of(counts).astype(int)
    assert frequencies.sum() == TOTAL
    assert frequencies.min() >= 1
    order = np.argsort(counts, kind="stable")
    assert (np.diff(frequencies[order])[np.diff(counts[order]) > 0] >= 0).all()


def test_frequencies_follow_the_counts() -> None:
    assert frequencies_of([0, 0, 0, 0]).tolist() == [TOTAL // 4] * 4
    assert frequencies_of([1, 3]).tolist() == [19661, 45875]  # (1 + 1/2) : (3 + 1/2), one unit each set aside
    assert frequencies_of(np.zeros(TOTAL, int)).tolist() == [1] * TOTAL


def test_code_length_is_close_to_the_entropy() -> None:
    random = np.random.default_rng(0)
    share = random.dirichlet([0.5] * 256)
    counts = random.multinomial(200_000, share)
    ideal = -(counts / counts.sum()) @ np.log2(np.maximum(counts, 1) / counts.sum())
    actual = -(counts / counts.sum()) @ np.log2(frequencies_of(counts) / TOTAL)
    assert ideal < actual < ideal + 0.01


@pytest.mark.parametrize("counts", [[-1, 5], [0.5, 1.5], [float("nan"), 1.0]])
def test_counts_that_are_no_counts_are_refused(counts: np.ndarray) -> None:
    with pytest.raises(EdgeError, match="whole numbers"):
        frequencies_of(counts)


def row(*values: float) -> np.ndarray:
    return np.array([[values]], np.uint32)


@pytest.mark.parametrize(
    ("frequencies", "groups", "ends", "message"),
    [
        (row(TOTAL, 0), [TOTAL], (1, 1, 1), "positive"),
        (row(TOTAL - 2, 1), [TOTAL], (1, 1, 1), "sum to 65536"),
        (row(TOTAL / 2, TOTAL / 2).astype(float), [TOTAL], (1, 1, 1), "not integers"),
        (row(TOTAL)[0], [TOTAL], (1, 1, 1), "3 dimensions"),
        (row(TOTAL), [TOTAL // 2] * 2, (1, 1, 1), "1 groups but 2"),
        (row(TOTAL), [TOTAL], (1, 1, 2), "the last of them 1"),
        (row(TOTAL), [TOTAL], (0, 1, 1), "rising"),
        (row(TOTAL), [TOTAL], (), "1 to 15 rising ends"),
        (row(TOTAL), [TOTAL], (1,) * 16, "1 to 15 rising ends"),
    ],
)
def test_invalid_tables_are_refused(
    frequencies: np.ndarray, groups: list[int], ends: tuple[int, ...], message: str
) -> None:
    with pytest.raises(EdgeError, match=message):
        Tables(frequencies, np.array(groups, np.uint32), ends)


def test_tables_cannot_be_changed(tables: Tables) -> None:
    with pytest.raises(ValueError, match="read-only"):
        tables.frequencies[0, 0, 0] = 1


def test_payload_limit_is_the_rarest_message() -> None:
    frequencies = np.array([[[1, TOTAL - 1]] * 3, [[TOTAL // 2] * 2] * 3])
    tables = Tables(frequencies, np.array([TOTAL - 1, 1]), (1, 2, 3))
    # group 0: 16 bits a token and next to nothing for the group; group 1: 16 bits and one bit a token
    assert tables.payload_limits == (3, 5, 7)


def test_saved_tables_load_and_have_the_same_bytes_every_time(tables: Tables, tmp_path: Path) -> None:
    tables.save(tmp_path / "a")
    tables.save(tmp_path / "b")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    loaded = Tables.load(tmp_path / "a")
    assert (loaded.frequencies == tables.frequencies).all()
    assert (loaded.group_frequencies == tables.group_frequencies).all()
    assert loaded.layer_ends == tables.layer_ends
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "b"]


def test_unreadable_tables_are_named(tmp_path: Path) -> None:
    with pytest.raises(EdgeError, match=r"absent: No such file"):
        Tables.load(tmp_path / "absent")
    (tmp_path / "text").write_text("tables")
    with pytest.raises(EdgeError, match=r"text: not a file of frequency tables"):
        Tables.load(tmp_path / "text")
    with pytest.raises(EdgeError, match="cannot write"):
        Tables(row(TOTAL), np.array([TOTAL]), (1, 1, 1)).save(tmp_path / "absent" / "tables")


@pytest.mark.parametrize("entries", [2, 5, 16, 17, 215, 256])
@pytest.mark.parametrize("ends", [(1,), (3, 4), (5, 8, 13), (16, 32, 64)])
def test_decode_many_is_decode_of_each(entries: int, ends: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    """Of whole payloads, of any bytes, and of the longest and shortest there are."""
    random = np.random.default_rng(entries)
    shape = (3, ends[-1], entries)
    tables = Tables.from_counts((random.pareto(0.4, shape) * 9).clip(0, 10**6).astype(np.int64), [5, 1, 900], ends)
    monkeypatch.setattr(tables_module, "_FEW", 0)
    for layers, end in enumerate(ends, 1):
        faces = [
            CodedFace(int(random.integers(3)), random.integers(entries, size=end).astype(np.uint16), layers)
            for _ in range(40)
        ]
        likely = tables.frequencies.argmax(-1)[:, :end].astype(np.uint16)
        rare = tables.frequencies.argmin(-1)[:, :end].astype(np.uint16)
        faces += [CodedFace(group, tokens[group], layers) for group in range(3) for tokens in (likely, rare)]
        whole = [tables.encode(face) for face in faces]
        longest = tables.payload_limits[layers - 1]
        other = [random.bytes(int(random.integers(longest + 1))) for _ in range(60)] + [b"", bytes(longest)]
        other += [payload + b"\0" for payload in whole if len(payload) < longest]
        found = tables.decode_many([*whole, *other], layers)
        assert found[: len(faces)] == faces
        for payload, answer in zip(other, found[len(faces) :], strict=True):
            if isinstance(answer, FrameError):
                with pytest.raises(FrameError, match=str(answer)):
                    tables.decode(payload, layers)
            else:
                assert tables.decode(payload, layers) == answer


def test_decode_many_of_few_or_one_entry() -> None:
    tables = Tables.from_counts(np.ones((1, 2, 1), np.int64), [1], (2,))
    face = CodedFace(0, np.zeros(2, np.uint16), 1)
    assert tables.decode_many([b""] * 20, 1) == [face] * 20
    assert tables.decode_many([], 1) == []
    one, *_ = Tables.from_counts(np.ones((1, 2, 4), np.int64), [1], (2,)).decode_many([b""] * 99, 1)
    assert isinstance(one, CodedFace)
    with pytest.raises(ValueError, match="read-only"):
        one.tokens[0] = 1

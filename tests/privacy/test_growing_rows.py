"""Rows by name: whatever comes and goes, each name has its row, and nothing is left of one that went."""

import numpy as np

from edge_stscq.privacy.growing_rows import GrowingRows


def test_rows_follow_puts_and_removals_in_any_order() -> None:
    draw, rows, expected = np.random.default_rng(5), GrowingRows(), dict[str, tuple[float, str]]()
    for _ in range(2000):
        name, label = f"face-{draw.integers(300)}", f"door-{draw.integers(3)}"
        if draw.random() < 0.4:
            rows.remove(name)
            expected.pop(name, None)
        else:
            value = float(draw.integers(1, 1000))
            rows.put(name, np.full((2, 3), value, np.float32), label)
            expected[name] = value, label
    assert len(rows) == len(expected) > 64
    found = {name: float(row[0, 0]) for name, row in zip(rows.names, rows.rows, strict=True)}
    assert found == {name: value for name, (value, _) in expected.items()}
    for label in ("door-0", "door-1", "door-2", "nowhere"):
        labeled = {name for name, is_of in zip(rows.names, rows.labeled(label), strict=True) if is_of}
        assert labeled == {name for name, (_, own) in expected.items() if own == label}


def test_rows_of_what_went_are_zeros() -> None:
    rows = GrowingRows()
    for number in range(100):
        rows.put(str(number), np.full(4, number + 1, np.float32), None)
    held = rows.rows
    for number in range(100):
        rows.remove(str(number))
    assert len(rows) == 0
    assert not held.any()
    rows.remove("0")


def test_rows_that_grow_leave_nothing_in_their_first_room() -> None:
    rows = GrowingRows()
    rows.put("a", np.ones(4, np.float32), None)
    first = rows.rows
    for number in range(64):
        rows.put(str(number), np.ones(4, np.float32), None)
    assert not first.any()
    assert rows.rows.all()
    assert rows.bytes == 128 * (4 * 4 + 8)

"""No more bytes leave than the budget says, in any stretch of time."""

import random

import pytest

from edge_stscq.client.byte_budget import Budget, ByteLimiter, parse_budget, parse_size
from edge_stscq.errors import EdgeError
from tests.client.fake_time import Time


@pytest.mark.parametrize(
    ("text", "size", "seconds"),
    [("2kB/min", 2000, 60), ("500B/s", 500, 1), ("1MB/h", 10**6, 3600), ("1.5KiB/d", 1536, 86400), ("3 kB/s", 3000, 1)],
)
def test_budgets_are_read(text: str, size: int, seconds: int) -> None:
    assert parse_budget(text) == Budget(size, seconds)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("2kB", "'2kB' is not a budget"), ("2kB/week", "'week' in '2kB/week' is not a period"),
        ("/s", "'' is not a size"),
        ("2KB/s", "'2KB' is not a size"), ("-1B/s", "'-1B' is not a size"), ("0B/s", "'0B' is less than a byte"),
        ("0.5B/s", "less than a byte"), ("2/s", "'2' is not a size"), ("٣B/s", "is not a size"), ("1B/s/s", "'s/s'"),
    ],
)  # fmt: skip
def test_what_is_no_budget_is_named(text: str, words: str) -> None:
    with pytest.raises(EdgeError) as raised:
        parse_budget(text)
    assert words in str(raised.value)


def test_sizes_are_read() -> None:
    assert [parse_size(text) for text in ("7B", "64MiB", "0.5kB", "2GB")] == [7, 2**26, 500, 2 * 10**9]


@pytest.mark.parametrize("seed", range(5))
def test_no_stretch_of_time_has_more_than_a_burst_and_its_share(seed: int) -> None:
    time, chance = Time(), random.Random(seed)
    bucket = ByteLimiter(Budget(2000, 60), time, time.sleep)
    taken: list[tuple[float, int]] = []
    for _ in range(300):
        size = chance.randint(1, 2000)
        bucket.take(size)
        taken.append((time.now, size))
        if chance.random() < 0.2:
            time.now += chance.expovariate(1 / 60)
    for first in range(0, len(taken), 7):
        total = 0
        for at, size in taken[first:]:
            total += size
            assert total <= 2000 + (at - taken[first][0]) * 2000 / 60 + 0.01


def test_all_of_a_budget_can_be_used() -> None:
    time = Time()
    bucket = ByteLimiter(Budget(2000, 60), time, time.sleep)
    for _ in range(100):
        bucket.take(100)
    assert time.now - 1000 == pytest.approx((100 * 100 - 2000) * 60 / 2000, abs=0.1)


def test_what_is_larger_than_the_bucket_goes_and_is_paid_back() -> None:
    time = Time()
    bucket = ByteLimiter(Budget(100, 10), time, time.sleep)
    bucket.take(250)
    assert (time.now, bucket.level()) == (1000.0, -150)
    bucket.take(1)
    assert time.now == pytest.approx(1015.1, abs=0.01)

"""A bucket fills evenly up to its bound, and debts are paid first."""

import pytest

from edge_stscq._token_bucket import TokenBucket


def test_token_bucket_fills_evenly_up_to_its_capacity() -> None:
    """Token bucket fills evenly and no further than its capacity."""
    bucket = TokenBucket(capacity=10, rate=2, time=100)
    assert bucket.level(105) == 10
    bucket.take(10, 105)
    assert bucket.level(107) == 4
    assert bucket.level(200) == 10


def test_token_bucket_debt_is_paid_before_more_is_there() -> None:
    bucket = TokenBucket(capacity=10, rate=2, time=0)
    bucket.take(25, 0)
    assert bucket.level(0) == -15
    assert bucket.seconds_until(1, 0) == pytest.approx(8)
    assert bucket.seconds_until(1, 8) == pytest.approx(0)

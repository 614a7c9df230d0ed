"""Token bucket: so many units in a time, evenly refilled, saved up to a bound."""

from dataclasses import dataclass, field


@dataclass(slots=True)
class TokenBucket:
    """Bucket that is full at first and gains `rate` units a second up to `capacity`.

    It has no clock: whoever asks says what time it is, in seconds of a clock that never goes back. It may be overdrawn;
    the debt is paid before anything else can be taken.

    Args:
        capacity: most units that it holds.
        rate: units gained a second.
        time: when it is made.
    """

    capacity: float
    rate: float
    time: float
    _level: float = field(init=False)

    def __post_init__(self) -> None:
        self._level = self.capacity

    def level(self, now: float) -> float:
        """Units there now; negative after an overdraft."""
        self._level = min(self.capacity, self._level + (now - self.time) * self.rate)
        self.time = now
        return self._level

    def take(self, amount: float, now: float) -> None:
        """Take `amount` units, into debt if need be."""
        self._level = self.level(now) - amount

    def seconds_until(self, amount: float, now: float) -> float:
        """Seconds until `amount` units are there; at most `capacity` of them ever are. 0 if they are now."""
        return max(0.0, (amount - self.level(now)) / self.rate)

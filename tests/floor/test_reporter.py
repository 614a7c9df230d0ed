"""Reporters of long work."""

from edge_stscq._reporter import SILENCE, Advance, track


class Notes:
    """Reporter that keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[object, ...]] = []

    def task(self, name: str, total: int, done: int = 0) -> Advance:
        self.told.append((name, total, done))
        return lambda steps=1, info=None: self.told.append((steps, info))

    def say(self, line: str) -> None:
        self.told.append((line,))


def test_track_tells_of_each_item_when_it_is_done() -> None:
    notes = Notes()
    items = track("ab", "letters", notes)
    assert notes.told == []
    assert next(items) == "a"
    assert notes.told == [("letters", 2, 0)]
    assert list(items) == ["b"]
    assert notes.told == [("letters", 2, 0), (1, None), (1, None)]


def test_silence_lets_everything_pass() -> None:
    assert list(track([1, 2], "numbers", SILENCE)) == [1, 2]
    SILENCE.say("nobody hears it")

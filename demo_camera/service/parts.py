"""Parts that the service is made of, as far as it knows them."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Protocol

from demo_camera.results import Capture
from demo_camera.sources import Picture


class SourceCounters(Protocol):
    """Counters of one source."""

    @property
    def damaged(self) -> int:
        """Pictures that could not be decoded."""


class Source(Protocol):
    """Pictures of one camera."""

    @property
    def counters(self) -> SourceCounters: ...

    @property
    def live(self) -> bool:
        """True if pictures come whether or not they are taken, so that the newest is the one to look at."""

    def pictures(self) -> Iterator[Picture]:
        """Yield pictures; raises `EdgeError` where no more can be had."""

    def close(self) -> None:
        """End `pictures`; also from another thread."""


class TrackEvent(Protocol):
    """News of a visit: `kind` is "new", "update" or "end", `score` the quality of its best face so far, 0 to 100."""

    @property
    def kind(self) -> str: ...
    @property
    def track(self) -> int: ...
    @property
    def score(self) -> float: ...
    @property
    def captured_ms(self) -> int | None:
        """Milliseconds since 1970 UTC; None of a picture that does not say when it was taken."""


class Step(Protocol):
    """Faces to send, and news, that one picture or the end of all visits gave."""

    @property
    def captures(self) -> Sequence[Capture]: ...
    @property
    def events(self) -> Sequence[TrackEvent]: ...


class Counters(Protocol):
    """Counters of one loop."""

    @property
    def pictures(self) -> int: ...
    @property
    def tracks(self) -> int: ...
    @property
    def faces(self) -> int: ...
    @property
    def rejected(self) -> Mapping[str, int]:
        """Faces that were refused, by reason."""


class Loop(Protocol):
    """Capture loop of one camera; for one thread."""

    @property
    def counters(self) -> Counters: ...

    def step(self, picture: Picture) -> Step:
        """Look at the next picture."""

    def end(self) -> Step:
        """End all visits; the loop may go on with others."""


OpenSource = Callable[[], Source]
Say = Callable[..., None]
"""`say(event, **fields)`: something that happened, for people and programs alike."""

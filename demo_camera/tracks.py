"""Tracks: the faces of one visit, from picture to picture.

A face belongs to the track whose predicted box it meets best, by DIoU: overlap of the boxes less the squared distance
of their centers over the squared diagonal of what encloses both (Zheng et al., "Distance-IoU loss", AAAI 2020). It
tells near from far also where boxes do not overlap, as those of somebody who runs do not. Boxes move on with the
constant velocity that the track had.

Place alone confuses people who cross, and loses who comes back from behind a pillar elsewhere. So a track that missed a
picture, or whose face could as well be another's, is *doubtful*, and so is one that is new. A doubtful face that is fit
to be coded is coded and compared with the running average of each track's embeddings: it goes to the track that it
resembles. One that resembles nobody may be half hidden; if the next one is like it, the two begin a track.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Box = tuple[float, float, float, float]
"""x, y, width, height in pixels."""

MAX_TRACKS = 64
"""Tracks that live at one time; one more ends that which was longest unseen."""
_NEAR = -0.3
"""Least DIoU of a face and its track: two boxes of a size one and a half widths apart."""
_CLEAR = 0.5
"""DIoU by which the nearest must be nearer than the next, or either may be meant."""
_LONGEST_STEP = 0.5
"""Seconds for which a velocity is believed."""
SAME = 0.45
"""Cosine from which a face is taken for that of a track. In benchmarks/device/film.py the faces of one visit have 0.7
and more with their average, and those of others less than 0.4 in 99 of 100."""
_OTHER = 0.25
"""Cosine below which a face is not its track's, whatever its place."""


@dataclass(frozen=True)
class Motion:
    """Box of a face at `seconds`, and velocity of its center in pixels a second, `[2]`."""

    box: Box
    seconds: float
    velocity: tuple[float, float] = (0.0, 0.0)

    def predicted(self, seconds: float) -> Box:
        """The box at a later time."""
        ahead = min(max(seconds - self.seconds, 0.0), _LONGEST_STEP)
        x, y, width, height = self.box
        return (x + self.velocity[0] * ahead, y + self.velocity[1] * ahead, width, height)

    def moved(self, box: Box, seconds: float) -> "Motion":
        """The motion with a new box; the velocity is the mean of what it was and what the boxes tell."""
        past = seconds - self.seconds
        if past <= 0:
            return Motion(box, seconds, self.velocity)
        told = ((new - old) / past for new, old in zip(_center(box), _center(self.box), strict=True))
        x, y = ((old + new) / 2 for old, new in zip(self.velocity, told, strict=True))
        return Motion(box, seconds, (x, y))


@dataclass(eq=False)
class Track:
    """One visit so far.

    Attributes:
        number: of the track, from its first face on that was fit to be coded; None before.
        before: motion before the latest picture.
        doubtful: the next face that is fit is to be compared before it is believed.
        coded_at: when a face of it was coded last, in seconds.
        embedding: running average of the unit embeddings of its coded faces, float32 `[128]`, of length 1; None
            without a matcher or before the first.
        odd: embedding of the latest face that was compared, if it was too little like the others; it is not kept.
    """

    motion: Motion
    before: Motion | None = None
    number: int | None = None
    doubtful: bool = True
    coded_at: float = float("-inf")
    embedding: NDArray[np.float32] | None = None
    odd: NDArray[np.float32] | None = None
    _sum: NDArray[np.float32] = field(default_factory=lambda: np.zeros((), np.float32), repr=False)

    def average(self, embedding: NDArray[np.float32]) -> None:
        """Take one more unit embedding, float32 `[128]`, into the running average."""
        self._sum = self._sum + embedding
        self.embedding = self._sum / max(float(np.linalg.norm(self._sum)), 1e-12)

    def cosine(self, embedding: NDArray[np.float32]) -> float:
        """Cosine of a unit embedding, float32 `[128]`, and the running average, -1 to 1; 0 without one."""
        return 0.0 if self.embedding is None else float(embedding @ self.embedding)

    def is_odd(self, embedding: NDArray[np.float32]) -> bool:
        """Tell if a face is too little like the track's to be its, by its unit embedding, float32 `[128]`."""
        return self.embedding is not None and self.cosine(embedding) < _OTHER

    def refutes(self, embedding: NDArray[np.float32]) -> bool:
        """Tell if an odd face is like the odd one before: another person, and not the same one half hidden."""
        return self.is_odd(embedding) and self.odd is not None and float(embedding @ self.odd) >= SAME

    def support(self, embedding: NDArray[np.float32]) -> float:
        """Cosine of a unit embedding of the average, float32 `[128]`, and the others, -1 to 1; 1 if it is alone."""
        others = self._sum - embedding
        norm = float(np.linalg.norm(others))
        return float(embedding @ others) / norm if norm > 1e-6 else 1.0


class Tracker:
    """Tracks of one camera.

    Args:
        lost_after: seconds without its face after which a track ends.

    Example:
        >>> tracker = Tracker(lost_after=2)
        >>> (track,) = tracker.follow([(10, 10, 80, 90)], seconds=0.0)
        >>> tracker.follow([(14, 10, 80, 90)], seconds=0.1) == [track]
        True
    """

    def __init__(self, lost_after: float = 2.0) -> None:
        self._lost_after = lost_after
        self.tracks: list[Track] = []
        """Those that live, the oldest first."""
        self._seen = 0.0
        """Time of the picture before."""

    @property
    def steady(self) -> bool:
        """Every track was seen in the latest picture, is not new and, if it has a number, not doubtful."""
        return all(
            track.motion.seconds == self._seen and track.before is not None
            and not (track.doubtful and track.number is not None)
            for track in self.tracks
        )  # fmt: skip

    def follow(self, boxes: Sequence[Box], seconds: float) -> list[Track]:
        """The track of each box of one picture, by its place; one of its own where there is none near."""
        near = {
            (index, place): value
            for index, track in enumerate(self.tracks)
            for place, box in enumerate(boxes)
            if (value := diou(track.motion.predicted(seconds), box)) >= _NEAR
        }
        pairs: dict[int, Track] = {}
        for index, place in greedy(near):
            track = pairs[place] = self.tracks[index]
            rivals = [near[pair] for pair in near if pair != (index, place) and (pair[0] == index or pair[1] == place)]
            unclear = max(rivals, default=-1.0) >= near[index, place] - _CLEAR
            track.doubtful |= unclear or track.motion.seconds < self._seen
        found = []
        for place, box in enumerate(boxes):
            if place in pairs:
                track = pairs[place]
                track.before, track.motion = track.motion, track.motion.moved(box, seconds)
            else:
                track = self._begin(box, seconds)
            found.append(track)
        self._seen = seconds
        return found

    def compare(self, faces: Mapping[int, NDArray[np.float32]], found: Sequence[Track]) -> list[Track]:
        """The tracks of the boxes of the latest picture, after a look at doubtful faces.

        Args:
            faces: unit embedding, float32 `[128]`, of each doubtful face, by its place in `found`.
            found: what `follow` answered.
        """
        sure = [track for place, track in enumerate(found) if place not in faces]
        free = [track for track in self.tracks if track.embedding is not None and track not in sure]
        alike = {
            (index, place): cosine
            for index, track in enumerate(free)
            for place, embedding in faces.items()
            if (cosine := track.cosine(embedding)) >= SAME
        }
        tracks, motions = list(found), [track.motion for track in found]
        settled = {place: free[index] for index, place in greedy(alike)}
        for place, embedding in faces.items():
            own = found[place]
            if place in settled:
                tracks[place] = settled[place]
            elif own in settled.values() or own.refutes(embedding):
                tracks[place] = self._begin(motions[place].box, motions[place].seconds)
        for place in faces:
            tracks[place].motion, tracks[place].doubtful = motions[place], False
            tracks[place].odd = faces[place] if tracks[place].is_odd(faces[place]) else None
        for left in [track for track in found if track not in tracks]:
            if left.before is None or left.embedding is None:
                self.tracks.remove(left)  # nothing is known of it but the place, which is another's now
            else:
                left.motion, left.doubtful = left.before, True
        return tracks

    def lost(self, seconds: float) -> list[Track]:
        """End the tracks that have not been seen for too long, and those beyond `MAX_TRACKS`."""
        kept = [track for track in self.tracks if seconds - track.motion.seconds <= self._lost_after]
        kept = sorted(kept, key=lambda track: -track.motion.seconds)[:MAX_TRACKS]
        ended = [track for track in self.tracks if track not in kept]
        self.tracks = [track for track in self.tracks if track in kept]
        return ended

    def end(self) -> list[Track]:
        """End all tracks."""
        ended, self.tracks = self.tracks, []
        return ended

    def _begin(self, box: Box, seconds: float) -> Track:
        track = Track(Motion(box, seconds))
        self.tracks.append(track)
        return track


def diou(first: Box, second: Box) -> float:
    """Overlap of two boxes less the distance of their centers, -1 to 1; 1 if they are the same.

    Example:
        >>> diou((0, 0, 10, 10), (0, 0, 10, 10))
        1.0
    """
    (left, top), (right, bottom) = _corners(first)
    (other_left, other_top), (other_right, other_bottom) = _corners(second)
    wide = max(0.0, min(right, other_right) - max(left, other_left))
    high = max(0.0, min(bottom, other_bottom) - max(top, other_top))
    union = first[2] * first[3] + second[2] * second[3] - wide * high
    diagonal = (max(right, other_right) - min(left, other_left)) ** 2
    diagonal += (max(bottom, other_bottom) - min(top, other_top)) ** 2
    (x, y), (other_x, other_y) = _center(first), _center(second)
    distance = (x - other_x) ** 2 + (y - other_y) ** 2
    return wide * high / max(union, 1e-9) - distance / max(diagonal, 1e-9)


def greedy(pairs: Mapping[tuple[int, int], float]) -> list[tuple[int, int]]:
    """The pairs of highest value, each left and each right member once."""
    chosen: list[tuple[int, int]] = []
    lefts: set[int] = set()
    rights: set[int] = set()
    for left, right in sorted(pairs, key=lambda pair: -pairs[pair]):
        if left not in lefts and right not in rights:
            chosen.append((left, right))
            lefts.add(left)
            rights.add(right)
    return chosen


def _center(box: Box) -> tuple[float, float]:
    return box[0] + box[2] / 2, box[1] + box[3] / 2


def _corners(box: Box) -> tuple[tuple[float, float], tuple[float, float]]:
    return (box[0], box[1]), (box[0] + box[2], box[1] + box[3])

"""The capture loop: picture -> faces -> judged -> followed -> the best one of each visit encoded -> frame.

The loop knows a detector, a gate, an encoder and a frame layout, not where they come from, and gives what it captured;
what becomes of a frame is the sink's business (`demo_camera/sinks.py`). Faces that are not captured are counted with
the reason.

Pictures that follow each other in time (`Picture.at`) are a film: a face is sent once a visit. A photograph stands for
itself: every face of it that passes is sent.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from demo_camera.best_shot import BestShot, SendRule, Shot
from demo_camera.results import Capture, Counters, Kind, Step, TrackEvent
from demo_camera.sources import Picture
from demo_camera.tracks import SAME, Track, Tracker
from edge_stscq.device.detect import Face
from edge_stscq.device.quality import Judgement
from edge_stscq.errors import EdgeError
from edge_stscq.stream import CapturedFace, Clock, CodedFace, FrameCodec, protected_face
from edge_stscq.stream.wire import frame_bound

MAX_FACES = 64
"""Faces of one picture that are looked at, the largest ones."""
COMPARED = 1.0
"""Seconds after which a visit's face is coded to be compared, though it is not its best."""
_ALIKE = 0.6
"""Cosine with the others of its visit that nearly every face exceeds."""


class Detector(Protocol):
    """The part of `edge_stscq.device.detect.Detector` that the loop needs."""

    def faces(self, image: NDArray[np.uint8]) -> list[Face]:
        """All faces of `uint8 [H, W, 3]`, RGB."""

    def glance(self, image: NDArray[np.uint8]) -> bool:
        """False, at less cost, if nobody who is near enough is in a picture."""


class Gate(Protocol):
    """The part of `edge_stscq.device.quality.QualityGate` that the loop needs."""

    def judge(self, image: NDArray[np.uint8], face: Face, *, known_upright: bool) -> Judgement:
        """Crop, quality and, of a face that is not taken, the refusal; cheaper where it is known to be upright."""


class Encoder(Protocol):
    """The part of `edge_stscq.device.DeviceEncoder` that the loop needs."""

    def encode(self, image: NDArray[np.uint8], layers: int | None) -> CodedFace:
        """The code of a canonical crop, `uint8 [128, 128, 3]`, RGB, with its first `layers` layers, or all."""


class Matcher(Protocol):
    """The part of `edge_stscq.device.Matcher` that the loop needs."""

    def embed(self, faces: Iterable[CodedFace]) -> NDArray[np.float32]:
        """Unit embeddings float32 `[N, 128]`; zeros of a face whose layers tell no identity."""


class Protector(Protocol):
    """The part of `edge_stscq.privacy.Protector` that the loop needs."""

    def protect(self, embedding: NDArray[np.float32]) -> bytes:
        """The protected template of a unit embedding float32 `[128]`, under a key of its own."""


@dataclass(eq=False)
class CaptureLoop:
    """Turns the pictures of one source into frames.

    For one thread. Loops of several cameras may share detector, gate, encoder and matcher if they are stepped by one
    thread, or each `step` and `end` under one lock: none of these is safe for two threads at once.

    Attributes:
        gate: judges each face that was found.
        matcher: compares the faces of broken or crossing tracks; without one, place alone tells.
        layers: of each face that travel; None is all.
        base: each face has a frame of its basic layer, too, which may travel before the further layers of any.
        most_faces: of one picture, those of highest quality; None is all that pass.
        limit: faces after which none is captured any more; None is no limit.
        every: faces are looked for in every n-th picture while all tracks are steady; 1 in all.
        lost_after: seconds without its face after which a visit is over.
        numbers: gives each visit its number. Loops that write into one stream share it.
        protector: makes a protected template of each face, which travels instead of its tokens; needs a matcher.
        on_refused: gets the picture's name and what was refused.

    Example:
        >>> loop = CaptureLoop(detector, encoder, bundle.frames, QualityGate(detector, Limits()))
        >>> for step in loop.run(source.pictures()):
        ...     for capture in step.captures:
        ...         spool.put(capture.coded)
    """

    detector: Detector
    encoder: Encoder
    codec: FrameCodec
    gate: Gate
    matcher: Matcher | None = None
    layers: int | None = None
    base: bool = False
    rule: SendRule = field(default_factory=SendRule)
    most_faces: int | None = None
    limit: int | None = None
    every: int = 1
    lost_after: float = 2.0
    numbers: Iterator[int] = field(default_factory=count)
    protector: Protector | None = None
    on_refused: Callable[[str, Judgement], None] = lambda picture, judgement: None
    counters: Counters = field(default_factory=Counters)
    latest: str = ""
    """The verdict on the latest picture, in words."""

    def __post_init__(self) -> None:
        if self.every < 1 or (self.most_faces is not None and self.most_faces < 1) or not self.lost_after > 0:
            raise EdgeError("faces and pictures are counted from 1, and a visit is over after more than 0 seconds")
        if self.protector is not None and self.matcher is None:
            raise EdgeError(
                "protected templates are made of embeddings, which this bundle does not give; export it anew"
            )
        self._tracker = Tracker(self.lost_after)
        self._best: dict[Track, BestShot] = {}
        self._picture: Picture | None = None
        self._passed_over = 0
        """Pictures in a row in which no face was looked for."""
        self._searched_at: float | None = None

    @property
    def open_tracks(self) -> int:
        """Visits with a face that passed and that are not over."""
        return len(self._best)

    @property
    def full(self) -> bool:
        """As many faces as `limit` says were captured."""
        return self.limit is not None and self.counters.faces >= self.limit

    def run(self, pictures: Iterable[Picture]) -> Iterator[Step]:
        """Yield the result of each picture, then that of the end; an error is raised after that.

        Raises:
            EdgeError: as the source or the encoder does.
        """
        failure: EdgeError | None = None
        try:
            for picture in pictures:
                yield self.step(picture)
        except EdgeError as error:
            failure = error
        yield self.end()
        if failure is not None:
            raise failure

    def step(self, picture: Picture) -> Step:
        """Look at one picture.

        Raises:
            EdgeError: the encoder's runtime failed.
        """
        self.counters.pictures += 1
        if picture.at is None:
            step = self.end()
            self._photograph(picture, step)
            return step
        before = self._picture
        again = before is not None and before.at is not None and picture.at < before.at
        step = self.end() if again else Step()  # another film begins
        self._picture = picture
        for track in self._tracker.lost(picture.at):
            self._close(track, picture, step)
        if self._may_pass_over(picture.at):
            self._passed_over += 1
        else:
            self._passed_over, self._searched_at = 0, picture.at
            self._follow(picture, picture.at, step)
        for track, best in self._best.items():
            shot = best.due(picture.at)
            if shot is not None:
                self._take(shot, track.number, step)
                step.events.append(self._event("update", track, best, picture))
        return step

    def finish(self) -> list[Capture]:
        """End all visits: their faces that were not sent."""
        return self.end().captures

    def end(self) -> Step:
        """End all visits: their faces that were not sent, and their news."""
        step = Step()
        if self._picture is not None:
            for track in self._tracker.end():
                self._close(track, self._picture, step)
        self._picture, self._passed_over = None, 0
        return step

    def _photograph(self, picture: Picture, step: Step) -> None:
        faces = self._faces(picture)
        judged = self._judged(picture, faces, [False] * len(faces))
        for place in self._chosen(judged):
            if not self.full:
                self._take(self._shot(picture, judged[place]), None, step)

    def _faces(self, picture: Picture, *, expected: bool = True) -> list[Face]:
        """The faces of a picture, the largest first, at most `MAX_FACES`; where nobody is expected, after a glance."""
        found = self.detector.faces(picture.image) if expected or self.detector.glance(picture.image) else []
        faces = sorted(found, key=lambda face: -face.box[2] * face.box[3])[:MAX_FACES]
        self.counters.searched += 1
        self.counters.found += len(faces)
        if not faces:
            self._reject("no face", f"{picture.name}: no face found")
        return faces

    def _judged(self, picture: Picture, faces: Sequence[Face], upright: Sequence[bool]) -> list[Judgement]:
        """The gate's judgement on each face; those that do not pass are counted."""
        judged = [
            self.gate.judge(picture.image, face, known_upright=known)
            for face, known in zip(faces, upright, strict=True)
        ]
        for found in judged:
            if found.refusal is not None:
                self._reject(found.refusal.reason, f"{picture.name}: {found.refusal}")
                self.on_refused(picture.name, found)
        return judged

    def _chosen(self, judged: Sequence[Judgement]) -> list[int]:
        """Places of the faces that pass, the best ones if there are more than are wanted; the others are counted."""
        passing = [place for place, found in enumerate(judged) if found.refusal is None]
        ranked = sorted(passing, key=lambda place: -judged[place].score)[: self.most_faces]
        if len(ranked) < len(passing):
            self.counters.rejected["more faces than wanted"] += len(passing) - len(ranked)
        return sorted(ranked)

    def _may_pass_over(self, seconds: float) -> bool:
        """Tell if no face need be looked for: what was there lately is surely there still."""
        lately = self._searched_at is not None and seconds - self._searched_at < self.lost_after / 2
        return self._passed_over + 1 < self.every and lately and self._tracker.steady

    def _follow(self, picture: Picture, seconds: float, step: Step) -> None:
        """Give each face of a picture to its track, and each track its best face."""
        faces = self._faces(picture, expected=bool(self._tracker.tracks))
        tracks = self._tracker.follow([face.box for face in faces], seconds)
        judged = self._judged(picture, faces, [not track.doubtful for track in tracks])
        chosen = self._chosen(judged)
        shots = {
            place: self._shot(picture, judged[place])
            for place in chosen
            if self._worth_coding(tracks[place], judged[place].score, seconds)
        }
        embeddings = self._embed(shots)
        tracks = self._tracker.compare(embeddings, tracks)
        for place, shot in shots.items():
            track, embedding = tracks[place], embeddings.get(place)
            track.doubtful, track.coded_at = track.odd is not None, seconds
            if track.odd is not None:
                continue
            if embedding is not None:
                track.average(embedding)
                track.doubtful = track.support(embedding) < SAME  # it is odd, or the others are: the next one tells
            self._keep(track, replace(shot, embedding=embedding), picture, seconds, step)

    def _worth_coding(self, track: Track, score: int, seconds: float) -> bool:
        """Tell if a face is to be compared, or would be the best of its visit."""
        due = self.matcher is not None and seconds - track.coded_at >= COMPARED
        return track.doubtful or due or self._best[track].wants(score)

    def _keep(self, track: Track, shot: Shot, picture: Picture, seconds: float, step: Step) -> None:
        """Offer a face to its visit, which begins with the first one."""
        best = self._best.get(track)
        if best is not None:
            best.offer(shot, lambda one: _trust(one, track))
            return
        track.number = next(self.numbers)
        self.counters.tracks += 1
        best = self._best[track] = BestShot(self.rule, seconds)
        best.offer(shot, lambda one: 1.0)
        step.events.append(self._event("new", track, best, picture))

    def _close(self, track: Track, picture: Picture, step: Step) -> None:
        best = self._best.pop(track, None)
        if best is None:
            return  # no face of it passed
        shot = best.due(0.0, ended=True)
        if shot is not None:
            self._take(shot, track.number, step)
        step.events.append(self._event("end", track, best, picture))

    def _embed(self, shots: Mapping[int, Shot]) -> dict[int, NDArray[np.float32]]:
        """Unit embeddings of coded faces, as far as their tokens tell an identity."""
        if self.matcher is None or not shots:
            return {}
        found = self.matcher.embed([shot.code for shot in shots.values()])
        return {place: row for place, row in zip(shots, found, strict=True) if row.any()}

    def _event(self, kind: Kind, track: Track, best: BestShot, picture: Picture) -> TrackEvent:
        assert track.number is not None
        return TrackEvent(
            kind, track.number, best.score, track.motion.box, picture.name, picture.captured_ms,
            picture.clock or Clock.NONE, best.sent, track.embedding,
        )  # fmt: skip

    def _shot(self, picture: Picture, found: Judgement) -> Shot:
        code = self.encoder.encode(found.crop, None)
        return Shot(picture.name, found.face, found.crop, code, found.score, picture.captured_ms,
                    picture.clock or Clock.NONE)  # fmt: skip

    def _take(self, shot: Shot, track: int | None, step: Step) -> None:
        """Make a frame of a face, unless there are as many as are wanted."""
        if self.full:
            return
        coded = self._coded(shot, track)
        self.counters.faces += 1
        self.counters.payload_bytes += coded.payload_bytes
        self.counters.wire_bytes += frame_bound(coded.payload_bytes)
        self.latest = f"{shot.picture}: {coded.payload_bytes} bytes"
        step.captures.append(Capture(shot.picture, shot.face, shot.crop, coded, shot.score, track))

    def _coded(self, shot: Shot, track: int | None) -> CapturedFace:
        """The tokens of a face on their way, or a template and nothing else."""
        if self.protector is not None:
            assert self.matcher is not None
            template = self.protector.protect(self.matcher.embed([shot.code])[0])
            return protected_face(
                template, self.codec.model_id, shot.captured_ms, shot.clock, track=track, quality=shot.score
            )
        code = shot.code if self.layers is None else shot.code.truncate(self.layers, self.codec.entropy.layer_ends)
        return self.codec.captured(code, shot.captured_ms, shot.clock, base=self.base, track=track, quality=shot.score)

    def _reject(self, reason: str, message: str) -> None:
        self.counters.rejected[reason] += 1
        self.latest = message


def _trust(shot: Shot, track: Track) -> float:
    """Share of its quality that a face of a track is worth, 0 to 1: all of it if it is like the others."""
    return 1.0 if shot.embedding is None else min(max(track.support(shot.embedding) / _ALIKE, 0.0), 1.0)

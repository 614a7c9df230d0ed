"""One visit gives one best picture, a photograph all its faces; whatever comes is counted, and nothing grows."""

import gc
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from demo_camera.best_shot import SendRule
from demo_camera.loop import CaptureLoop
from demo_camera.results import Capture, Step, TrackEvent
from demo_camera.sources import Picture
from edge_stscq.errors import EdgeError
from edge_stscq.stream import Clock, CodedFace
from edge_stscq.stream.envelope import Kind as WireKind
from edge_stscq.stream.wire import frame_bound
from tests.demo_camera.conftest import FakeEncoder, Seen, Stage

MakeLoop = Callable[..., CaptureLoop]


def walk(loop: CaptureLoop, stage: Stage, *pictures: tuple[Seen, ...]) -> Step:
    """Result of a film of these pictures before its end."""
    whole = Step()
    for faces in pictures:
        step = loop.step(stage.picture(*faces))
        whole.captures.extend(step.captures)
        whole.events.extend(step.events)
    return whole


def kinds(events: list[TrackEvent]) -> list[tuple[str, int]]:
    return [(event.kind, event.track) for event in events]


def coded_face(loop: CaptureLoop, capture: Capture) -> CodedFace:
    (frame,) = capture.coded.frames(bytes(16), "camera", 0)
    return loop.codec.face(frame)


def test_visit_gives_its_best_face_when_it_ends(loop: CaptureLoop, stage: Stage) -> None:
    seen = [Seen(100 + 30 * step, score=score) for step, score in enumerate((20, 60, 90, 40, 10))]
    during = walk(loop, stage, *((one,) for one in seen))
    assert during.captures == []
    assert kinds(during.events) == [("new", 0)]
    after = walk(loop, stage, *[()] * 25)
    (capture,) = after.captures
    assert (capture.picture, capture.score, capture.track) == ("picture 3", 90, 0)
    coded = capture.coded
    assert (coded.captured_ms, coded.clock, coded.track, coded.quality) == (300, Clock.SYNCHRONIZED, 0, 90)
    (end,) = after.events
    assert (end.kind, end.track, end.score, end.sent, end.captured_ms) == ("end", 0, 90, 1, 2600)
    assert loop.finish() == []
    counters = loop.counters
    assert (counters.pictures, counters.tracks, counters.faces, counters.found) == (30, 1, 1, 5)
    assert counters.rejected == {"no face": 25}
    assert (counters.payload_bytes, counters.wire_bytes) == (coded.payload_bytes, frame_bound(coded.payload_bytes))


def test_visit_ends_after_seconds_and_not_after_pictures(make_loop: MakeLoop, stage: Stage) -> None:
    for step, count in ((0.02, 101), (0.5, 5)):
        loop, stage.step, stage.at = make_loop(lost_after=2.0), step, 0.0
        walk(loop, stage, (Seen(100),))
        assert walk(loop, stage, *[()] * (count - 1)).captures == []
        assert len(walk(loop, stage, ()).captures) == 1


def test_visit_that_goes_on_is_sent_after_a_while_and_again_only_if_better_by_a_margin(
    make_loop: MakeLoop, stage: Stage
) -> None:
    loop = make_loop(rule=SendRule(best_after=1.0, margin=20))
    first = walk(loop, stage, *[(Seen(100, score=50),)] * 11)
    assert [(one.score, one.track) for one in first.captures] == [(50, 0)]
    assert kinds(first.events) == [("new", 0), ("update", 0)]
    assert walk(loop, stage, *[(Seen(100, score=69),)] * 30).captures == []
    second = walk(loop, stage, (Seen(100, score=70),))
    assert [one.score for one in second.captures] == [70]
    assert walk(loop, stage, *[(Seen(100, score=95),)] * 5).captures == [], "not at once"
    assert [one.score for one in loop.finish()] == [95]
    assert loop.counters.tracks == 1


def test_finish_sends_what_waits_and_the_end_tells_of_it(loop: CaptureLoop, stage: Stage) -> None:
    walk(loop, stage, (Seen(100, who=0), Seen(400, who=1)))
    step = loop.end()
    assert [one.track for one in step.captures] == [0, 1]
    assert kinds(step.events) == [("end", 0), ("end", 1)]
    assert loop.open_tracks == 0
    assert loop.end() == Step()


def test_face_is_coded_only_when_it_is_better_or_after_a_second(
    make_loop: MakeLoop, stage: Stage, encoder: FakeEncoder
) -> None:
    loop = make_loop()
    walk(loop, stage, *[(Seen(100, score=50),)] * 6, (Seen(100, score=51),), (Seen(100, score=49),))
    assert encoder.calls == 1, "a trifle is not worth it"
    walk(loop, stage, (Seen(100, score=60),))
    assert encoder.calls == 2
    walk(loop, stage, *[(Seen(100, score=50),)] * 35)
    assert encoder.calls == 5
    walk(make_loop(matcher=None), stage, *[(Seen(100, score=50),)] * 30)
    assert encoder.calls == 6, "nothing would be compared"


def test_sharp_face_that_is_half_hidden_is_not_the_best(loop: CaptureLoop, stage: Stage) -> None:
    walk(loop, stage, (Seen(100, score=60),), (Seen(100, who=8, score=80),), *[(Seen(100, score=63),)] * 3)
    assert [one.score for one in loop.finish()] == [63]
    assert loop.counters.tracks == 1


def test_visit_that_began_half_hidden_is_not_stuck_with_it(loop: CaptureLoop, stage: Stage) -> None:
    hidden, seen = Seen(100, who=8, score=80), Seen(100, score=60)
    walk(loop, stage, (hidden,), *[(seen,)] * 15)
    (capture,) = loop.finish()
    assert (capture.score, loop.counters.tracks) == (60, 1)


def test_known_face_is_not_turned_again(loop: CaptureLoop, stage: Stage) -> None:
    walk(loop, stage, (Seen(100),), (Seen(100),), (), (Seen(100),), (Seen(100),))
    assert stage.known_upright == [False, True, False, True]


def test_occluded_visitor_stays_one_visit(loop: CaptureLoop, stage: Stage) -> None:
    walk(loop, stage, (Seen(100),), *[()] * 15, (Seen(450),), *[()] * 15, (Seen(200),))
    assert len(loop.finish()) == 1
    assert loop.counters.tracks == 1


def test_people_who_cross_keep_their_visits(loop: CaptureLoop, stage: Stage) -> None:
    pictures: list[tuple[Seen, ...]] = []
    for step in range(21):
        left, right = Seen(100 + 20 * step, who=0, score=40 + step), Seen(500 - 20 * step, who=1, score=70)
        pictures.append((left,) if abs(left.x - right.x) < 60 else (left, right))
    walk(loop, stage, *pictures)
    faces = {one.track: int(coded_face(loop, one).tokens[0]) for one in loop.finish()}
    assert faces == {0: 0, 1: 1}
    assert loop.counters.tracks == 2


def test_without_a_matcher_place_tells(make_loop: MakeLoop, stage: Stage) -> None:
    loop = make_loop(matcher=None)
    during = walk(loop, stage, (Seen(100),), (Seen(110),), (), (Seen(125),), *[()] * 3, (Seen(500),))
    assert {event.embedding is None for event in during.events} == {True}
    assert loop.counters.tracks == 2


def test_events_carry_the_running_average(loop: CaptureLoop, stage: Stage) -> None:
    (new,) = walk(loop, stage, (Seen(100, who=3),)).events
    assert new.embedding is not None
    assert np.argmax(new.embedding) == 3


def test_refused_faces_are_counted_shown_and_never_a_visit(make_loop: MakeLoop, stage: Stage) -> None:
    refused: list[tuple[str, str]] = []
    loop = make_loop(on_refused=lambda name, found: refused.append((name, str(found.refusal))))
    step = walk(loop, stage, *[(Seen(100, refusal="too blurred"),)] * 3)
    assert step == Step()
    assert loop.end() == Step()
    assert loop.counters.rejected == {"too blurred": 3}
    assert refused[0] == ("picture 1", "too blurred (as the test says)")
    assert loop.latest == "picture 3: too blurred (as the test says)"


def test_visit_is_numbered_from_its_first_face_that_passes(loop: CaptureLoop, stage: Stage) -> None:
    walk(loop, stage, (Seen(100, refusal="too dark"), Seen(400, who=1)), (Seen(100), Seen(400, who=1)))
    assert [(one.track, one.picture) for one in loop.finish()] == [(1, "picture 2"), (0, "picture 1")]


def test_all_faces_of_a_photograph_are_captured_and_belong_to_no_visit(loop: CaptureLoop, stage: Stage) -> None:
    step = loop.step(stage.photograph(Seen(100, who=1, size=50), Seen(300, who=2, size=90), Seen(500, who=1, size=70)))
    assert [(one.track, one.coded.track, one.face.box[2]) for one in step.captures] == [
        (None, None, 90), (None, None, 70), (None, None, 50),
    ]  # fmt: skip
    assert step.events == []
    (coded, *_) = (one.coded for one in step.captures)
    assert (coded.captured_ms, coded.clock, coded.quality) == (None, Clock.NONE, 50)
    assert loop.finish() == []
    again = loop.step(stage.photograph(Seen(100, who=1), Seen(300, who=2)))
    assert len(again.captures) == 2, "no picture knows of another"


def test_the_best_faces_are_taken_where_fewer_are_wanted(make_loop: MakeLoop, stage: Stage) -> None:
    """The largest is blurred, and does not stand in the way."""
    loop = make_loop(most_faces=1)
    faces = Seen(300, size=200, refusal="too blurred"), Seen(100, score=80, who=1), Seen(500, score=30, who=2)
    (capture,) = loop.step(stage.photograph(*faces)).captures
    assert capture.score == 80
    assert loop.counters.rejected == {"too blurred": 1, "more faces than wanted": 1}


def test_film_after_film_and_a_photograph_between_end_all_visits(loop: CaptureLoop, stage: Stage) -> None:
    walk(loop, stage, (Seen(100),))
    step = loop.step(stage.photograph())
    assert [one.track for one in step.captures] == [0]
    walk(loop, stage, (Seen(100),))
    step = loop.step(stage.picture(Seen(100), seconds=0.0))
    assert ([one.track for one in step.captures], kinds(step.events)) == ([1], [("end", 1), ("new", 2)])


def test_clock_that_is_set_back_ends_no_visit(loop: CaptureLoop, stage: Stage) -> None:
    for hours in (2, 1, 5):
        picture = replace(stage.picture(Seen(100, score=40 + hours)), captured_ms=hours * 3_600_000)
        assert loop.step(picture).captures == []
    (capture,) = loop.finish()
    assert capture.coded.captured_ms == 5 * 3_600_000


def test_steady_film_is_searched_in_every_nth_picture(make_loop: MakeLoop, stage: Stage) -> None:
    loop = make_loop(every=5)
    walk(loop, stage, *[(Seen(100),)] * 51)
    assert loop.counters.pictures == 51
    assert stage.searched == loop.counters.searched == 11
    assert [one.track for one in loop.finish()] == [0]


def test_face_that_vanished_is_looked_for_in_every_picture(make_loop: MakeLoop, stage: Stage) -> None:
    loop = make_loop(every=5)
    walk(loop, stage, *[(Seen(100),)] * 7)
    before = stage.searched
    walk(loop, stage, *[()] * 10)
    assert stage.searched - before == 6, "the first miss is seen in the fifth picture"


def test_face_that_never_passes_does_not_cost_every_picture(make_loop: MakeLoop, stage: Stage) -> None:
    walk(make_loop(every=5), stage, *[(Seen(100, refusal="too small"),)] * 51)
    assert stage.searched == 11


def test_slow_camera_is_not_slowed_further(make_loop: MakeLoop, stage: Stage) -> None:
    loop, stage.step = make_loop(every=5, lost_after=2.0), 1.0
    walk(loop, stage, *[(Seen(100),)] * 10)
    assert stage.searched == 10
    assert len(loop.finish()) == 1


@pytest.mark.parametrize("layers", [1, 2, None])
def test_fewer_layers_travel_and_all_are_compared(layers: int | None, make_loop: MakeLoop, stage: Stage) -> None:
    loop = make_loop(layers=layers, base=True)
    (capture,) = loop.step(stage.photograph(Seen(100))).captures
    face = loop.codec.face(capture.coded.frames(bytes(16), "camera", 0)[-1])
    assert face == loop.encoder.encode(capture.crop, layers)
    assert [count for count, _ in capture.coded.payloads] == ([1] if layers == 1 else [1, layers or 3])


def test_failing_source_gives_what_waited_and_then_the_error(loop: CaptureLoop, stage: Stage) -> None:
    def pictures() -> Iterator[Picture]:
        yield stage.picture(Seen(100))
        raise EdgeError("the camera was unplugged")

    captures: list[Capture] = []
    with pytest.raises(EdgeError, match="unplugged"):
        captures.extend(one for step in loop.run(pictures()) for one in step.captures)
    assert len(captures) == 1


def test_nobody_comes_and_that_is_no_error(loop: CaptureLoop, stage: Stage) -> None:
    assert [step for step in loop.run(stage.picture() for _ in range(3)) if step != Step()] == []
    assert list(loop.run([])) == [Step()]
    assert loop.counters.rejected == {"no face": 3}


def test_nothing_grows_with_time(loop: CaptureLoop, stage: Stage) -> None:
    """Sixty visitors of ten pictures each, and a face that is refused and flickers all the time."""

    def visit(number: int) -> None:
        flicker = (Seen(600, y=400, refusal="not a face"),) if number % 2 else ()
        walk(loop, stage, *[(Seen(100 + 40 * step, who=number % 8), *flicker) for step in range(10)], *[flicker] * 25)

    for number in range(20):
        visit(number)
    gc.collect()
    before = len(gc.get_objects())
    for number in range(40):
        visit(number)
    gc.collect()
    assert len(gc.get_objects()) - before < 200
    assert loop.counters.tracks == 60


def test_picture_of_very_many_is_cut_off_at_the_largest_faces(loop: CaptureLoop, stage: Stage) -> None:
    faces = [Seen(10 * number, size=10 + number % 90) for number in range(500)]
    step = loop.step(stage.photograph(*faces))
    assert len(step.captures) == loop.counters.found == 64
    assert min(one.face.box[2] for one in step.captures) > 80


@pytest.mark.parametrize("options", [{"every": 0}, {"most_faces": 0}, {"lost_after": 0.0}])
def test_numbers_that_mean_nothing_are_refused(options: dict[str, float], make_loop: MakeLoop) -> None:
    with pytest.raises(EdgeError, match="counted from 1"):
        make_loop(**options)


@pytest.mark.parametrize("rule", [{"best_after": 0}, {"best_after": float("nan")}, {"margin": 0}, {"margin": 101}])
def test_rules_that_mean_nothing_are_refused(rule: dict[str, float]) -> None:
    with pytest.raises(EdgeError, match="give more than 0"):
        SendRule(**rule)


def test_loop_glances_while_nobody_is_there(loop: CaptureLoop, stage: Stage) -> None:
    walk(loop, stage, (), (), ())
    assert (stage.searched, loop.counters.searched) == (0, 3)
    walk(loop, stage, (Seen(100),), (Seen(104),), (), (), ())
    assert stage.searched == 5, "a visit that is not over may go on in any picture"
    walk(loop, stage, *[()] * 30)
    assert 5 < stage.searched < 30
    loop.step(stage.photograph())
    assert loop.counters.rejected["no face"] == loop.counters.searched - 2


class FakeProtector:
    """A template that holds the whole embedding, so that a test can tell whose it is."""

    def protect(self, embedding: NDArray[np.float32]) -> bytes:
        return b"\x02key id 8" + bytes([int(embedding.argmax())])


def test_protected_face_travels_as_a_template_and_no_token(make_loop: MakeLoop, stage: Stage) -> None:
    loop = make_loop(protector=FakeProtector(), base=True)
    captures = loop.step(stage.photograph(Seen(100, who=2), Seen(400, who=5))).captures
    assert [capture.coded.payloads for capture in captures] == [
        ((1, b"\x02key id 8" + bytes([who])),) for who in (2, 5)
    ]
    assert {capture.coded.kind for capture in captures} == {WireKind.PROTECTED}
    assert {capture.coded.quality for capture in captures} == {50}


def test_protected_faces_need_a_matcher(make_loop: MakeLoop) -> None:
    with pytest.raises(EdgeError, match="made of embeddings, which this bundle does not give"):
        make_loop(protector=FakeProtector(), matcher=None)

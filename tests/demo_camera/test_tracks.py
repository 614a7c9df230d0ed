"""Faces are followed by place and by what they look like; what is kept is bounded."""

import numpy as np
import pytest
from numpy.typing import NDArray

from demo_camera.tracks import MAX_TRACKS, Box, Motion, Track, Tracker, diou, greedy


def box(x: float, y: float = 100, size: float = 80) -> Box:
    return (x - size / 2, y - size / 2, size, size)


def person(number: int) -> NDArray[np.float32]:
    return np.asarray(np.eye(128, dtype=np.float32)[number], np.float32)


def follow(tracker: Tracker, faces: dict[int, Box], seconds: float) -> dict[int, Track]:
    """The track of each person, by name; all faces are fit to be compared."""
    found = tracker.follow(list(faces.values()), seconds)
    tracks = tracker.compare({place: person(who) for place, who in enumerate(faces)}, found)
    for who, track in zip(faces, tracks, strict=True):
        if track.odd is None:
            track.average(person(who))
    tracker.lost(seconds)
    return dict(zip(faces, tracks, strict=True))


def test_diou_is_overlap_and_tells_near_from_far_without_one() -> None:
    assert diou(box(0), box(0)) == 1
    assert diou(box(0), box(40)) == pytest.approx(1 / 3 - 40**2 / (120**2 + 80**2))
    apart = [diou(box(0), box(x)) for x in (80, 120, 200, 2000)]
    assert apart == sorted(apart, reverse=True)
    assert -1 <= apart[-1] < apart[0] < 0


def test_greedy_pairs_each_member_once() -> None:
    assert greedy({(0, 0): 0.5, (0, 1): 0.9, (1, 1): 0.8, (1, 0): 0.1}) == [(0, 1), (1, 0)]


def test_motion_goes_on_for_half_a_second() -> None:
    motion = Motion(box(0), 0.0).moved(box(10), 0.1).moved(box(20), 0.2)
    assert motion.velocity == pytest.approx((75, 0)), "half of what the boxes tell, then half of the rest"
    assert motion.predicted(0.4)[0] == pytest.approx(box(35)[0])
    assert motion.predicted(99) == pytest.approx(motion.predicted(0.7))
    assert motion.moved(box(500), 0.2).velocity == motion.velocity, "no time passed, so nothing is told"


def test_somebody_who_walks_is_one_track() -> None:
    tracker = Tracker()
    tracks = {id(follow(tracker, {0: box(50 + 70 * step)}, step / 5)[0]) for step in range(12)}
    assert len(tracks) == 1


def test_people_side_by_side_are_two_tracks() -> None:
    tracker = Tracker()
    seen = [follow(tracker, {0: box(100), 1: box(200)}, step / 10) for step in range(5)]
    assert all(one[0] is seen[0][0] and one[1] is seen[0][1] for one in seen)
    assert seen[0][0] is not seen[0][1]


def test_who_comes_back_elsewhere_is_the_same_visit() -> None:
    tracker = Tracker(lost_after=2)
    before = follow(tracker, {0: box(100)}, 0)[0]
    follow(tracker, {}, 0.5)
    assert follow(tracker, {0: box(500)}, 1.5)[0] is before
    assert tracker.tracks == [before]


def test_who_comes_back_too_late_is_another_visit() -> None:
    tracker = Tracker(lost_after=2)
    before = follow(tracker, {0: box(100)}, 0)[0]
    assert tracker.lost(2.5) == [before]
    assert follow(tracker, {0: box(100)}, 2.5)[0] is not before


def test_another_person_in_the_same_place_is_another_visit() -> None:
    tracker = Tracker()
    before = follow(tracker, {0: box(100)}, 0)[0]
    assert follow(tracker, {1: box(100)}, 0.1)[1] is before
    assert before.odd is not None, "it may be half hidden"
    assert follow(tracker, {1: box(100)}, 0.2)[1] is not before
    assert before in tracker.tracks, "it may come back"
    assert before.motion.seconds == 0.1


def test_one_odd_face_is_nobody() -> None:
    tracker = Tracker()
    before = follow(tracker, {0: box(100)}, 0)[0]
    for step, who in enumerate((1, 0, 2, 0), 1):
        assert follow(tracker, {who: box(100)}, step / 10)[who] is before
    assert tracker.tracks == [before]


def test_people_who_change_places_unseen_keep_their_tracks() -> None:
    tracker = Tracker()
    before = follow(tracker, {0: box(100), 1: box(200)}, 0)
    after = follow(tracker, {1: box(100), 0: box(200)}, 0.1)
    assert (after[0], after[1]) == (before[0], before[1])
    assert before[0].motion.box == box(200)


def test_one_behind_the_other_and_out_again() -> None:
    tracker = Tracker()
    before = follow(tracker, {0: box(100), 1: box(300)}, 0)
    follow(tracker, {0: box(180), 1: box(220)}, 0.1)
    follow(tracker, {0: box(200)}, 0.2)
    after = follow(tracker, {1: box(170), 0: box(230)}, 0.3)
    assert (after[0], after[1]) == (before[0], before[1])
    assert len(tracker.tracks) == 2


def test_face_that_was_missed_or_has_a_rival_is_doubtful() -> None:
    tracker = Tracker()
    (track,) = tracker.follow([box(100)], 0)
    assert track.doubtful, "it is new"
    track.doubtful = False
    tracker.follow([box(100)], 0.1)
    assert not track.doubtful
    assert tracker.steady
    tracker.follow([], 0.2)
    assert not tracker.steady
    tracker.follow([box(100)], 0.3)
    assert track.doubtful
    track.doubtful = False
    tracker.follow([box(100), box(200)], 0.4)
    assert not track.doubtful, "side by side is clear"
    tracker.follow([box(100), box(120)], 0.5)
    assert track.doubtful


def test_faces_without_an_embedding_are_told_by_place_alone() -> None:
    tracker = Tracker()
    (track,) = tracker.follow([box(100)], 0)
    assert tracker.compare({}, [track]) == [track]
    assert tracker.follow([box(110)], 0.1) == [track]
    assert tracker.follow([box(400)], 0.2) != [track]


def test_running_average_is_of_length_one_and_tells_the_odd_one() -> None:
    track = Track(Motion(box(0), 0))
    track.average(person(0))
    assert track.support(person(0)) == 1, "it is alone"
    track.average(person(0))
    track.average(person(1))
    assert track.embedding is not None
    assert np.linalg.norm(track.embedding) == pytest.approx(1)
    assert track.cosine(person(0)) == pytest.approx(2 * track.cosine(person(1)))
    assert track.support(person(1)) == pytest.approx(0)
    assert track.support(person(0)) == pytest.approx(0.5**0.5)


def test_tracks_are_bounded_and_the_longest_unseen_ends_first() -> None:
    tracker = Tracker(lost_after=1e9)
    for number in range(MAX_TRACKS + 10):
        tracker.follow([box(1000 * number)], number)
    ended = tracker.lost(MAX_TRACKS + 10)
    assert [track.motion.seconds for track in ended] == list(range(10))
    assert len(tracker.tracks) == MAX_TRACKS
    assert len(tracker.end()) == MAX_TRACKS
    assert tracker.tracks == []

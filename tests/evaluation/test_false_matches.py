"""Thresholds held against a count of all pairs, by brute force, and lists of people that are no lists."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge_stscq.codec.model import Codec
from edge_stscq.config.match_thresholds import PERHAPS_RATE, SAME_PERSON_RATE
from edge_stscq.data.crops import Faces
from edge_stscq.errors import EdgeError
from edge_stscq.evaluation.false_matches import (
    CENTERS,
    LEAST_FACES,
    People,
    fit_cohort,
    gather_faces,
    lfw_people,
    measure_codes,
    read_people,
)
from edge_stscq.stream import Codes

FACES, PEOPLE = 500, 470


@pytest.fixture(scope="module")
def codec(tiny_model: Path) -> Codec:
    return Codec.load(tiny_model)


def drawn_codes(codec: Codec, count: int, seed: int) -> Codes:
    config, draw = codec.config, np.random.default_rng(seed)
    tokens = draw.integers(0, config.entries, (count, config.tokens)).astype(np.int32)
    return Codes(draw.integers(0, config.groups, count).astype(np.int32), tokens, len(config.layers))


@pytest.fixture(scope="module")
def people() -> People:
    names = tuple(f"face-{number:03}" for number in range(FACES))
    identity = tuple(f"person {number % PEOPLE}" for number in range(FACES))
    label = tuple("" if number % 3 == 0 else "odd" if number % 2 else "even" for number in range(FACES))
    return People(names, identity, {"parity": label})


@pytest.fixture(scope="module")
def faces(people: People) -> Faces:
    return Faces(people.names, np.broadcast_to(np.uint8(0), (FACES, 128, 128, 3)))


@pytest.mark.parametrize("with_cohort", [False, True])
def test_thresholds_equal_a_count_of_all_pairs(codec: Codec, faces: Faces, people: People, with_cohort: bool) -> None:
    codes = drawn_codes(codec, FACES, 1)
    cohort = fit_cohort(codec, [drawn_codes(codec, 1000, 2), drawn_codes(codec, 400, 3)]) if with_cohort else None
    rule = measure_codes(codec, faces, people, ["drawn"], codes, cohort, ("more",), 1400)
    assert rule.thresholds.measured.people == PEOPLE
    identity, label = np.array(people.identity), np.array(people.labels["parity"])
    upper = np.triu(np.ones((FACES, FACES), bool), 1)
    for layers, row in enumerate(rule.thresholds.layers, 1):
        unit = codec.embed(codes, layers)
        scores = rule.scores(unit, unit, layers).astype(np.float64)
        strangers = scores[upper & (identity[:, None] != identity[None])]
        same = scores[upper & (identity[:, None] == identity[None])]
        assert rule.thresholds.measured.stranger_pairs == len(strangers)
        for limit, share in ((row.pair.same_person, SAME_PERSON_RATE), (row.pair.perhaps, PERHAPS_RATE)):
            # sums of another order may move a score by a rounding, over a threshold that is rounded up, too
            assert abs(limit.measured.matches - (strangers > limit.score).sum()) <= 1
            assert limit.measured.rate <= share
            assert (strangers > limit.score - 2e-4).mean() >= share - 2 / len(strangers)
            assert limit.same_accepted is not None
            assert (limit.same_accepted.pairs, len(same)) == (30, 30)
            assert limit.same_accepted.matches == (same > limit.score).sum()
            assert limit.measured.low <= limit.measured.rate <= limit.measured.high
        assert [one.value for one in row.labels] == ["even", "odd"]
        for one in row.labels:
            among = (label == one.value)[:, None] & (label == one.value)[None]
            within = scores[upper & among & (identity[:, None] != identity[None])]
            assert one.perhaps.pairs == len(within)
            assert abs(one.perhaps.matches - (within > row.pair.perhaps.score).sum()) <= 1
        assert row.track is None  # 30 people with two faces make too few pairs


def test_thresholds_against_tracks_where_people_have_several_faces(codec: Codec, faces: Faces) -> None:
    people = People(faces.names, tuple(f"person {number % 250}" for number in range(FACES)), {})
    codes = drawn_codes(codec, FACES, 4)
    half = codes[:250]
    pairs = Codes.concatenate([half, half])  # both faces of a person are one
    track = measure_codes(codec, faces, people, ["drawn"], pairs, None, (), 0).thresholds.layers[2].track
    assert track is not None
    assert track.perhaps.measured.pairs == FACES * 249
    assert track.perhaps.same_accepted is not None
    assert track.perhaps.same_accepted.rate == 1
    assert track.perhaps.score < 0.9999


def test_cohort_is_of_many_faces_and_repeatable(codec: Codec) -> None:
    codes = drawn_codes(codec, CENTERS * LEAST_FACES, 5)
    cohort = fit_cohort(codec, [codes])
    assert cohort.centers.shape == (len(codec.config.layers), CENTERS, 128)
    assert np.allclose(np.linalg.norm(cohort.centers.astype(np.float32), axis=2), 1, atol=1e-2)
    assert cohort.to_bytes() == fit_cohort(codec, [codes]).to_bytes()
    unit = codec.embed(codes, 1)
    assert (unit @ cohort.centers[0].astype(np.float32).T).max() < 0.9999  # nobody's own face
    with pytest.raises(EdgeError, match="1,280 faces or more, not 9"):
        fit_cohort(codec, [codes[:9]])


def test_too_few_people_are_refused(codec: Codec, faces: Faces, people: People) -> None:
    few = Faces(faces.names[:9], faces.images[:9])
    listed = People(people.names[:9], people.identity[:9], {})
    with pytest.raises(EdgeError, match="9 faces of 9 people make 36 pairs of strangers; 1 in 10,000 needs 100,000"):
        measure_codes(codec, few, listed, ["drawn"], drawn_codes(codec, 9, 1), None, (), 0)


WriteList = Callable[[str], Path]


@pytest.fixture
def write_list(tmp_path: Path) -> WriteList:
    def write(text: str) -> Path:
        (tmp_path / "people.csv").write_text(text)
        return tmp_path / "people.csv"

    return write


def test_people_are_read_with_their_labels(write_list: WriteList) -> None:
    people = read_people(write_list('name,identity,age\na-1,anna,"20 to 39"\na-2,anna,\n\nb-1,bo,60\n'))
    assert people == People(("a-1", "a-2", "b-1"), ("anna", "anna", "bo"), {"age": ("20 to 39", "", "60")})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "must begin with the line name,identity"), ("identity,name\na,b\n", "must begin with the line"),
        ("name,identity\n", "lists no crops"), ("name,identity\na\n", "line 2 needs 2 fields"),
        ("name,identity\na,\n", "line 2 needs 2 fields"), ("name,identity\na,x\na,y\n", "lists a crop twice"),
        ("name,identity,age,age\na,b,1,2\n", "labels of different names"),
        ('name,identity\n"a,x\n', "not CSV"),
    ],
)  # fmt: skip
def test_lists_that_are_none_are_refused(write_list: WriteList, text: str, said: str) -> None:
    with pytest.raises(EdgeError, match=said):
        read_people(write_list(text))


def test_people_of_lfw_are_named_by_their_crops() -> None:
    people = lfw_people(["Bo_Li_0002", "Al_0001", "Bo_Li_0002"])
    assert people == People(("Al_0001", "Bo_Li_0002"), ("Al", "Bo_Li"), {})


def test_crops_are_gathered_from_several_sets(tmp_path: Path) -> None:
    for folder, names in {"first": ("a", "b"), "second": ("c", "unlisted")}.items():
        (tmp_path / folder).mkdir()
        for name in names:
            cv2.imwrite(str(tmp_path / folder / f"{name}.png"), np.full((128, 128, 3), ord(name[0]), np.uint8))
    sources = [tmp_path / "first", tmp_path / "second"]
    lists = [People(("c",), ("carl",), {}), People(("b", "a"), ("bo", "anna"), {"age": ("1", "2")})]
    faces, people = gather_faces(sources, lists)
    assert faces.names == ("a", "b", "c")
    assert faces.images[:, 0, 0, 0].tolist() == [ord("a"), ord("b"), ord("c")]
    assert people == People(("c", "b", "a"), ("carl", "bo", "anna"), {"age": ("", "1", "2")})
    with pytest.raises(EdgeError, match="1 of 2 crops are in none of the sets, e.g. z"):
        gather_faces(sources, [People(("a", "z"), ("anna", "zoe"), {})])
    with pytest.raises(EdgeError, match="two lists"):
        gather_faces(sources, [lists[0], lists[0]])
    with pytest.raises(EdgeError, match="a second time"):
        gather_faces([tmp_path / "first", tmp_path / "first"], [People(("a",), ("anna",), {})])

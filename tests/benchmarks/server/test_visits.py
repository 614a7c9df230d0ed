"""Counts of the benchmark of visits: what is a wrong merge, a wrong split, and whose a face is."""

from benchmarks.server.visits import DAY_MS, GAP, STAY, Grouped, score, whose
from edge_stscq.server.api.schemas import moment
from tests.support.sources.film import START


def test_score_counts_merges_splits_and_pairs() -> None:
    found = score([
        Grouped("door-0", 1, (0,)), Grouped("door-1", 1, (0,)), Grouped("door-2", 2, (0, 1)),
        Grouped("door-0", 3, (1,)), Grouped("door-1", 3, (2,)),
    ])  # fmt: skip
    assert (found["people_seen"], found["persons"]) == (3, 3)
    assert (found["visits_seen"], found["visits_grouped"], found["visits_of_two_people"]) == (5, 5, 1)
    assert (found["wrong_merges"], found["wrong_splits"]) == (1, 1)
    assert found["pairs"] == {"same": 3, "joined": 2, "right": 1, "precision": 0.5, "recall": 0.3333}


def test_score_of_a_right_grouping_has_nothing_wrong() -> None:
    found = score([Grouped(f"door-{day}", person, (person,)) for day in range(3) for person in range(2)])
    assert (found["persons"], found["wrong_merges"], found["wrong_splits"]) == (2, 0, 0)
    assert (found["pairs"]["precision"], found["pairs"]["recall"]) == (1, 1)


def test_whose_tells_by_the_time_of_the_day() -> None:
    for day, number in ((0, 0), (0, 19), (4, 7)):
        seconds = (START + day * DAY_MS) / 1000 + 1 + number * (STAY + GAP) + STAY / 2
        assert whose({"captured": moment(seconds).isoformat()}) == number

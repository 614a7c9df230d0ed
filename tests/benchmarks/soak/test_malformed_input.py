"""The run of malformed inputs goes on where it stopped, and ends at the first that is not refused as it should be."""

import random
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.soak import malformed_input
from benchmarks.soak.malformed_input import CHUNK, Maker, Run, measure
from fuzz.properties import PROPERTIES, reads

COUNT = 6000


def test_a_run_goes_on_and_stops_at_what_is_wrong(tmp_path: Path) -> None:
    path, seen = tmp_path / "state.json", list[int]()

    def tried(chance: random.Random, number: int) -> bool:
        seen.append(number)
        if number == CHUNK + 7:
            raise IndexError("a defect")
        return number % 2 == 0

    assert not Run(path).go_on("kind", CHUNK, tried, until=0)
    assert Run(path).go_on("kind", CHUNK, tried, until=time.monotonic() + 60)
    assert seen == list(range(CHUNK))
    with pytest.raises(RuntimeError, match=f"kind {CHUNK + 7} of the {CHUNK} from {CHUNK} broke"):
        Run(path).go_on("kind", 2 * CHUNK, tried, until=time.monotonic() + 60)
    assert (Run(path).state["kind"]["done"], Run(path).state["kind"]["accepted"]) == (CHUNK, CHUNK // 2)


def test_most_inputs_are_malformed_and_all_keep_the_properties() -> None:
    maker, chance = Maker(), random.Random(0)
    makers: dict[Callable[[bytes], bool], Callable[[], bytes]] = {
        PROPERTIES["stream"]: lambda: maker.damaged(chance, 1),
        reads: lambda: maker.damaged(chance, 2),
        PROPERTIES["payload"]: lambda: maker.unsealed(chance),
        PROPERTIES["request"]: lambda: maker.request(chance),
    }
    for holds, make in makers.items():
        assert sum(holds(make()) for _ in range(100)) < 50


def test_checksums_that_are_right_lead_behind_them() -> None:
    maker, chance = Maker(), random.Random(0)
    accepted = sum(reads(maker.sealed(chance)) for _ in range(200))
    assert 20 < accepted < 180


def test_all_kinds_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(malformed_input, "FRAMES", 2)
    monkeypatch.setattr(malformed_input, "APP_SHARE", 0.01)
    monkeypatch.setattr(malformed_input, "SOCKET_SHARE", 0.01)
    found = measure(COUNT, 5, tmp_path)
    assert (found["done"], found["complete"], found["kinds"]["flips"]["accepted"]) == (COUNT, True, 0)
    assert found["kinds"]["flips"]["done"] == found["flips_of_these_frames"]
    assert sum(found["kinds"]["socket"]["answers"].values()) == found["kinds"]["app"]["done"] == COUNT // 100
    for kind in ("parser", "sealed"):
        assert 0 < found["kinds"][kind]["peak_bytes"] < malformed_input.PARSER_BOUND

"""A few kills of producers, senders and server; the thousand are in benchmarks/results/kills.json."""

import sqlite3
from contextlib import closing
from pathlib import Path

from benchmarks.soak.crash_recovery import judge, make_faces, run
from benchmarks.soak.fleet import SPOOLS, Fleet
from edge_stscq.bundle.model_folder import load_frame_codec
from edge_stscq.client.spool import Spool

FACES, KILLS = 90, 6


def test_few_kills_lose_nothing_and_wrong_stores_are_found(tiny_model: Path, tmp_path: Path) -> None:
    """A few kills lose nothing and what is wrong in the store is found."""
    found = run(tiny_model, tmp_path, FACES, KILLS, longest=0.1, minutes=5)
    assert found is not None
    assert sum(found["victims"].values()) == KILLS
    assert (found["lost"], found["stored_twice"], found["corrupt"], found["not_ours"]) == (0, 0, 0, 0)
    assert (found["under_another_number"], found["frames_refused"], found["requests_refused"]) == (0, 0, 0)
    assert found["integrity"] == dict.fromkeys(("store", *SPOOLS), "ok")
    for name in SPOOLS:
        spool = found["spools"][name]
        assert (spool["taken"], spool["delivered"]) == (FACES // 3, FACES // 3)
        assert (spool["dropped"], spool["damaged"], spool["refused"]) == (0, 0, 0)

    with Spool(tmp_path / f"{SPOOLS[1]}.spool") as opened:
        stream = opened.stream_id
    with closing(sqlite3.connect(tmp_path / "faces.db")) as store, store:
        for change in (
            "DELETE FROM faces WHERE stream = ? AND sequence = 3",
            "UPDATE faces SET quality = 7 + ifnull(quality, 0) WHERE stream = ? AND sequence = 5",
            "UPDATE faces SET payload = (SELECT payload FROM faces WHERE stream = ?1 AND sequence = 8)"
            " WHERE stream = ?1 AND sequence = 7",
            f"UPDATE faces SET sequence = {FACES} WHERE stream = ? AND sequence = 9",
            "UPDATE faces SET device = 'other' WHERE stream = ? AND sequence = 11",
        ):
            assert store.execute(change, (stream,)).rowcount == 1
    worse = judge(Fleet(tiny_model, tmp_path, make_faces(load_frame_codec(tiny_model), FACES)))
    assert (worse["lost"], worse["corrupt"], worse["stored_twice"], worse["not_ours"]) == (2, 3, 1, 1)
    assert worse["under_another_number"] == 2

"""A few kills of producer, sender and server; the thousand are in benchmarks/results/kills.json."""

import sqlite3
from pathlib import Path

from benchmarks.soak.crash_recovery import Fleet, judge, make_faces, run
from edge_stscq.codec.store import load_frame_codec

FACES, KILLS = 90, 6


def test_few_kills_lose_nothing_and_wrong_stores_are_found(tiny_model: Path, tmp_path: Path) -> None:
    """A few kills lose nothing and what is wrong in the store is found."""
    found = run(tiny_model, tmp_path, FACES, KILLS, longest=0.1, minutes=5)
    assert found is not None
    assert sum(found["victims"].values()) == KILLS
    assert (found["lost"], found["stored_twice"], found["corrupt"], found["not_ours"]) == (0, 0, 0, 0)
    assert found["integrity"] == {"store": "ok", "spool": "ok"}
    assert (found["spool"]["taken"], found["spool"]["delivered"], found["spool"]["dropped"]) == (FACES, FACES, 0)
    assert found["requests_refused"] == 0

    codec = load_frame_codec(tiny_model)
    faces = make_faces(codec, FACES)
    store = sqlite3.connect(tmp_path / "faces.db")
    with store:
        store.execute("DELETE FROM faces WHERE sequence = 3")
        store.execute("UPDATE faces SET frame = ? WHERE sequence = 5", (faces[5][0],))
        store.execute("UPDATE faces SET frame = ? WHERE sequence = 7", (faces[8][1],))
        store.execute("UPDATE faces SET sequence = ? WHERE sequence = 9", (FACES,))
    store.close()
    worse = judge(Fleet(tiny_model, tmp_path, codec.model_id, faces), faces)
    assert (worse["lost"], worse["corrupt"], worse["stored_twice"], worse["not_ours"]) == (2, 2, 1, 1)

"""`edge-stscq store`: what an operator does with the faces of a server."""

import contextlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result
from typer.testing import CliRunner

from edge_stscq._images import read_image
from edge_stscq.bundle.model_folder import load_config, load_frame_codec
from edge_stscq.cli.store import store as app
from edge_stscq.errors import EdgeError
from edge_stscq.server.decoding.catalog import ModelCatalog
from edge_stscq.server.persons.editing import PersonStore
from edge_stscq.server.persons.grouping import Grouper
from edge_stscq.server.persons.reading import Enrolled
from edge_stscq.server.storage.sql_face_store import SqlFaceStore
from edge_stscq.stream import CodedFace
from tests.support.models.match_rules import rule_of
from tests.support.stored_faces import NOON, Camera, accept

Run = Callable[..., Result]


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def answer(*arguments: object) -> dict[str, object]:
    done = run(*arguments, "--json")
    assert done.exit_code in (0, 1), done.exception
    found: dict[str, object] = json.loads(done.stdout)
    return found


@pytest.fixture
def cameras(tiny_model: Path, tmp_path: Path) -> list[Camera]:
    """Two cameras of which one saw faces 0 to 3, the other 4 to 7; face 4 is face 0 again."""
    codec, config, random = load_frame_codec(tiny_model), load_config(tiny_model), np.random.default_rng(0)
    faces = [
        CodedFace(int(random.integers(config.groups)), random.integers(config.entries, size=config.tokens), 3)
        for _ in range(8)
    ]
    faces[4] = faces[0]
    made = [Camera(codec, name, bytes([number]) * 16) for number, name in enumerate(("door-1", "door-2"))]
    with contextlib.closing(SqlFaceStore(tmp_path / "faces.db")) as opened:
        for number, face in enumerate(faces):
            accept(opened, [made[number // 4].frame(face, number % 4, NOON + 60_000 * number)])
    return made


@pytest.fixture
def place(cameras: list[Camera], tmp_path: Path) -> Path:
    return tmp_path / "faces.db"


def left(place: Path) -> list[str]:
    with contextlib.closing(SqlFaceStore(place)) as opened:
        return [f"{face.device}/{face.sequence}" for face in opened.page(0, 99)]


def test_check_counts(place: Path) -> None:
    assert run("check", "--store", place).stdout == f"{place}: 8 faces whole, 0 erased\n"
    assert answer("check", "--store", place)["whole"] is True


def test_check_damage_is_exit_1_and_repair_mends(place: Path) -> None:
    with contextlib.closing(SqlFaceStore(place)) as opened, opened._database.write() as db:
        db.exec_driver_sql("UPDATE faces SET layers = 9 WHERE sequence = 2")
    done = run("check", "--store", place)
    assert done.exit_code == 1
    assert "6 faces whole, 2 damaged" in done.stdout
    repaired = answer("repair", "--store", place)
    assert (repaired["kept"], len(repaired["lost"])) == (6, 2)  # type: ignore[arg-type]
    assert run("check", "--store", place).exit_code == 0


@pytest.mark.parametrize("command", ["check", "erase", "export"])
def test_absent_store_is_not_made(command: str, tmp_path: Path) -> None:
    extra = {"export": ("-o", tmp_path / "out", "x-0"), "erase": ("x-0",)}.get(command, ())
    done = run(command, "--store", tmp_path / "none.db", *extra)
    assert isinstance(done.exception, EdgeError)
    assert "there is no store" in str(done.exception)
    assert not (tmp_path / "none.db").exists()


def test_erase_asks_first(place: Path) -> None:
    done = run("erase", "--device", "door-1", "--store", place)
    assert "4 faces would be erased; look with --dry-run, then give --yes" in str(done.exception)
    shown = run("erase", "--device", "door-1", "--store", place, "--dry-run")
    assert shown.exit_code == 0
    assert "4 faces" in shown.stdout
    assert len(left(place)) == 8


def test_erase_nothing_chosen_is_refused(place: Path) -> None:
    assert "nothing was chosen" in str(run("erase", "--store", place, "--yes").exception)


@pytest.mark.parametrize(
    ("chosen", "stays"),
    [
        (["--device", "door-1"], ["door-2/0", "door-2/1", "door-2/2", "door-2/3"]),
        (["--since", "@2", "--until", "@6"], ["door-1/0", "door-1/1", "door-2/2", "door-2/3"]),
        (["--since", "@5", "--device", "door-2"], [*(f"door-1/{number}" for number in range(4)), "door-2/0"]),
    ],
)
def test_erase_chooses(place: Path, chosen: list[str], stays: list[str]) -> None:
    from datetime import datetime

    def moment(word: str) -> str:
        return datetime.fromtimestamp(NOON / 1000 + 60 * int(word[1:])).isoformat(timespec="seconds")

    words = [moment(word) if word.startswith("@") else word for word in chosen]
    assert answer("erase", "--store", place, "--yes", *words)["erased"] == 8 - len(stays)
    assert left(place) == stays


@pytest.mark.parametrize("minute", [1, 100])
def test_erase_of_a_time_keeps_away_what_a_spool_brings_later(
    place: Path, cameras: list[Camera], tiny_model: Path, minute: int
) -> None:
    """Also where nothing of that time has come yet."""
    from datetime import datetime

    begin, end = (datetime.fromtimestamp(NOON / 1000 + 60 * at).isoformat() for at in (minute, minute + 1))
    done = run("erase", "--store", place, "--yes", "--device", "door-1", "--since", begin, "--until", end)
    assert done.exit_code == 0, done.exception
    assert "what these still hold of that time is refused" in " ".join(done.stderr.split())
    offline = Camera(cameras[0].codec, "door-1", b"\x07" * 16)
    (face,) = (CodedFace(0, np.zeros(load_config(tiny_model).tokens, np.uint16), 3),)
    with contextlib.closing(SqlFaceStore(place)) as opened:
        late, after = accept(
            opened, [offline.frame(face, at, NOON + 60_000 * (minute + at) + 30_000) for at in range(2)]
        )
    assert (getattr(late, "code", late), after) == ("erased", "stored")


def test_erase_by_name_reports_cameras_that_may_hold_more(place: Path, cameras: list[Camera], tmp_path: Path) -> None:
    names = [f"{camera.stream}-1" for camera in cameras]
    done = run("erase", "--store", place, "--yes", *names)
    assert done.exit_code == 0, done.exception
    assert "2 faces erased" in done.stdout
    for name in ("door-1", "door-2"):
        assert f"{name} sent its last face" in done.stdout
    assert "search with another face of the person: --match ID" in done.stderr, "erased names cannot be given again"
    (line,) = (tmp_path / "audit.jsonl").read_text().splitlines()
    assert (json.loads(line)["what"], json.loads(line)["faces"]) == ("store erase", 2)
    assert "there is no face" in str(run("erase", "--store", place, "--yes", names[0]).exception)


def test_erase_person_by_an_example(place: Path, cameras: list[Camera], tiny_model: Path) -> None:
    found = answer(
        "erase", "--store", place, "--match", f"{cameras[0].stream}-0", "--min-cosine", 0.999, "--model", tiny_model,
        "--dry-run",
    )["faces"]  # fmt: skip
    assert {face["id"] for face in found} == {f"{camera.stream}-0" for camera in cameras}  # type: ignore[attr-defined]
    assert all(face["cosine"] > 0.999 for face in found)  # type: ignore[attr-defined]


def test_export_is_a_persons_own_data(place: Path, cameras: list[Camera], tiny_model: Path, tmp_path: Path) -> None:
    output = tmp_path / "anna"
    told = answer("export", f"{cameras[0].stream}-1", "--store", place, "-o", output, "--model", tiny_model)
    assert (told["faces"], told["pictures"]) == (1, 1)
    (line,) = (tmp_path / "audit.jsonl").read_text().splitlines()
    assert (json.loads(line)["what"], json.loads(line)["devices"]) == ("store export", ["door-1"])
    (row,) = json.loads((output / "faces.json").read_text())
    assert (row["device"], row["number"], row["layers"]) == ("door-1", 1, 3)
    assert row["captured"] is not None
    assert read_image(output / row["picture"]).shape == (128, 128, 3)
    assert output.stat().st_mode & 0o777 == 0o700
    again = run("export", f"{cameras[0].stream}-1", "--store", place, "-o", output, "--model", tiny_model)
    assert "is not an empty folder" in str(again.exception)


def test_export_has_visits_and_persons(place: Path, cameras: list[Camera], tiny_model: Path, tmp_path: Path) -> None:
    (entry,) = ModelCatalog([tiny_model])
    rule = rule_of(entry.model_id.hex(), entry.config.layer_names, None, 0.9, 0.8)
    with contextlib.closing(SqlFaceStore(place)) as opened:
        grouper, people = Grouper(opened, [replace(entry, rule=rule)], 10), PersonStore(opened)
        while grouper.step():
            pass
        anna, *_ = (one for one in people.persons(20) if one.visits == 2)
        face = entry.codec.face(next(iter(opened.page(0, 1))).frame())
        people.enroll("Anna", [Enrolled(entry.model_id, 3, entry.codec.payload(face), 80)], anna.id)
        nobody = people.enroll("Zoe", [Enrolled(entry.model_id, 3, entry.codec.payload(face), 70)]).person
    told = answer("export", "--person", anna.id, "--store", place, "-o", tmp_path / "anna", "--model", tiny_model)
    assert (told["faces"], told["persons"]) == (2, 1)
    (person,) = json.loads((tmp_path / "anna" / "persons.json").read_text())
    assert (person["person"], person["name"]) == (anna.id, "Anna")
    assert [one["quality"] for one in person["enrolled"]] == [80]
    assert [visit["device"] for visit in person["visits"]] == ["door-1", "door-2"]
    faces = json.loads((tmp_path / "anna" / "faces.json").read_text())
    assert {one["id"]: one["visit"] for one in faces} == {
        face: visit["visit"] for visit in person["visits"] for face in visit["faces"]
    }
    assert {one["person"] for one in faces} == {anna.id}
    others = answer("export", "--device", "door-1", "--store", place, "-o", tmp_path / "door", "--model", tiny_model)
    assert (others["faces"], others["persons"]) == (4, 4)
    found = json.loads((tmp_path / "door" / "persons.json").read_text())
    assert [len(one["visits"]) for one in found] == [1] * 4, "what was not asked for is not handed over"
    alone = answer("export", "--person", nobody, "--store", place, "-o", tmp_path / "zoe", "--model", tiny_model)
    assert (alone["faces"], alone["persons"]) == (0, 1)
    assert json.loads((tmp_path / "zoe" / "persons.json").read_text())[0]["name"] == "Zoe"
    for extra, said in (((999,), "no person 999"), ((anna.id, "--match", "x-0"), "not two of them")):
        done = run("export", "--person", *extra, "--store", place, "-o", tmp_path / "none", "--model", tiny_model)
        assert said in str(done.exception)
    assert not (tmp_path / "none").exists()


def test_erase_person_by_a_file_again_when_a_spool_has_drained(
    place: Path, cameras: list[Camera], tiny_model: Path, tmp_path: Path
) -> None:
    person = ("--match", f"{cameras[0].stream}-0", "--min-cosine", 0.999, "--model", tiny_model)
    answer("export", "--store", place, "-o", tmp_path / "anna", *person)
    (file,) = (tmp_path / "anna").glob("*.stsq")
    with_file = ("erase", "--match", file, *person[2:])
    first = run(*with_file, "--store", place, "--yes")
    assert "2 faces erased" in first.stdout
    assert f"run again: edge-stscq store erase --match {file} --min-cosine 0.999" in " ".join(first.stderr.split())
    with contextlib.closing(SqlFaceStore(place)) as opened:  # a spool that was offline for a day
        codec = cameras[0].codec
        same = next(codec.read(file.read_bytes()))
        accept(opened, [cameras[0].frame(same, 9, NOON + 600_000)])
    assert answer(*with_file, "--store", place, "--yes")["erased"] == 1
    assert answer(*with_file, "--store", place, "--yes")["erased"] == 0


@pytest.mark.parametrize("content", [b"", b"STSQ\x02", b"no stream at all"])
def test_match_file_without_a_face_is_refused_in_one_line(
    place: Path, tiny_model: Path, tmp_path: Path, content: bytes
) -> None:
    file = tmp_path / "empty.stsq"
    file.write_bytes(content)
    done = run("erase", "--store", place, "--match", file, "--model", tiny_model, "--yes")
    assert isinstance(done.exception, EdgeError)
    assert f"{file} holds no face" in str(done.exception)
    assert len(left(place)) == 8


def test_backup_erase_restore(place: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.db"
    assert answer("backup", "-o", copy, "--store", place) == {"backup": str(copy), "faces": 8}
    assert answer("erase", "--store", place, "--yes", "--device", "door-1")["erased"] == 4
    restored = answer("restore", copy, "--store", place)
    assert (restored["faces"], restored["erased"]) == (4, 4)
    assert left(place) == ["door-2/0", "door-2/1", "door-2/2", "door-2/3"]

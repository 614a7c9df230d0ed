"""`edge-stscq store` with protected templates: checked, repaired, exported, restored and erased as others are."""

import contextlib
import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result
from typer.testing import CliRunner

from edge_stscq.bundle.model_folder import load_frame_codec
from edge_stscq.cli.store_keys import store as app
from edge_stscq.errors import EdgeError
from edge_stscq.privacy import KeyStore, scheme_named, write_new_secret
from edge_stscq.server.storage.sql_face_store import SqlFaceStore
from edge_stscq.stream.envelope import STATIC_TABLES, Kind, WireFrame
from tests.support.stored_faces import NOON, Camera, accept


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def answer(*arguments: object) -> dict[str, object]:
    done = run(*arguments, "--json")
    assert done.exit_code in (0, 1), done.exception
    found: dict[str, object] = json.loads(done.stdout)
    return found


@pytest.fixture
def templates(tmp_path: Path) -> list[bytes]:
    """Of one face, under four keys."""
    unit = (np.ones(128) / 128**0.5).astype(np.float32)
    keys = KeyStore.create(tmp_path / "matcher.keys", b"s" * 32)
    issued = keys.issue_all([f"door-1-{number}" for number in range(4)])
    return [scheme_named("rotated").enroll(unit, key) for key in issued.values()]


@pytest.fixture
def camera(tiny_model: Path) -> Camera:
    return Camera(load_frame_codec(tiny_model), kind=Kind.PROTECTED, coder_id=STATIC_TABLES)


@pytest.fixture
def place(camera: Camera, templates: list[bytes], tmp_path: Path) -> Path:
    with contextlib.closing(SqlFaceStore(tmp_path / "faces.db")) as opened:
        accept(opened, [
            WireFrame(camera.source, number, 1, template, NOON + 60_000 * number)
            for number, template in enumerate(templates)
        ])  # fmt: skip
    return tmp_path / "faces.db"


def left(place: Path) -> list[bytes]:
    with contextlib.closing(SqlFaceStore(place)) as opened:
        return [face.payload for face in opened.page(0, 99)]


def test_templates_are_checked_and_repaired(place: Path, templates: list[bytes]) -> None:
    assert run("check", "--store", place).stdout == f"{place}: 4 faces whole, 0 erased\n"
    with contextlib.closing(SqlFaceStore(place)) as opened, opened._database.write() as db:
        db.exec_driver_sql("UPDATE faces SET payload = x'00' WHERE sequence = 2")
    assert run("check", "--store", place).exit_code == 1
    repaired = answer("repair", "--store", place)
    assert (repaired["kept"], len(repaired["lost"])) == (3, 1)  # type: ignore[arg-type]
    assert left(place) == [templates[0], templates[1], templates[3]]
    assert run("check", "--store", place).exit_code == 0


def test_a_template_whose_kind_was_changed_is_damage(place: Path) -> None:
    """The kind is under the checksum, so nobody makes tokens of a template, or the other way round."""
    with contextlib.closing(SqlFaceStore(place)) as opened, opened._database.write() as db:
        db.exec_driver_sql("UPDATE faces SET kind = 0 WHERE sequence = 2")
    done = run("check", "--store", place)
    assert (done.exit_code, "3 faces whole, 1 damaged" in done.stdout) == (1, True)


def test_templates_are_exported_without_pictures(
    place: Path, camera: Camera, templates: list[bytes], tiny_model: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    done = answer("export", "--store", place, "--device", "door-1", "--model", tiny_model, "-o", out)
    assert (done["faces"], done["pictures"]) == (4, 0)
    rows = json.loads((out / "faces.json").read_text())
    assert [(row["protected"], row["picture"], bytes.fromhex(row["payload"])) for row in rows] == [
        (True, None, template) for template in templates
    ]
    assert [path.name for path in out.iterdir()] == ["faces.json"]


@pytest.mark.parametrize(("chosen", "kept"), [
    (("--device", "door-1"), []),
    (("--since", "2023-11-14T22:14:30Z"), [0, 1]),
    (("--until", "2023-11-14T22:14:30Z"), [2, 3]),
])  # fmt: skip
def test_templates_are_erased_by_device_and_time(
    place: Path, templates: list[bytes], chosen: tuple[str, ...], kept: list[int]
) -> None:
    assert answer("erase", "--store", place, *chosen, "--yes")["erased"] == 4 - len(kept)
    assert left(place) == [templates[number] for number in kept]


def test_templates_are_erased_by_id_and_stream(place: Path, camera: Camera, templates: list[bytes]) -> None:
    answer("erase", "--store", place, f"{camera.stream}-1", "--yes")
    assert left(place) == [templates[0], templates[2], templates[3]]
    assert answer("erase", "--store", place, "--stream", camera.stream, "--yes")["erased"] == 3
    assert left(place) == []


def test_nothing_is_like_a_template(place: Path, camera: Camera, tiny_model: Path) -> None:
    done = run("erase", "--store", place, "--match", f"{camera.stream}-1", "--model", tiny_model, "--yes")
    assert isinstance(done.exception, EdgeError)
    assert "is a protected template, which is like no face without its key; name its id" in str(done.exception)
    assert len(left(place)) == 4


def test_restored_backup_brings_no_erased_template_back(
    place: Path, camera: Camera, templates: list[bytes], tmp_path: Path
) -> None:
    backup = tmp_path / "backup.db"
    run("backup", "--store", place, "-o", backup)
    answer("erase", "--store", place, f"{camera.stream}-1", "--yes")
    restored = answer("restore", backup, "--store", place)
    assert restored["erased"] == 1
    assert left(place) == [templates[0], templates[2], templates[3]]
    with contextlib.closing(SqlFaceStore(place)) as opened:
        (refused,) = accept(opened, [WireFrame(camera.source, 1, 1, templates[1], NOON + 60_000)])
    assert refused.code == "erased"  # type: ignore[union-attr]


def test_templates_lie_sealed_in_a_sealed_store(place: Path, templates: list[bytes], tmp_path: Path) -> None:
    secret = tmp_path / "store.secret"
    write_new_secret(secret)
    assert run("seal", "--store", place, "--seal", f"file:{secret}").exit_code == 0
    assert not any(template in path.read_bytes() for template in templates for path in tmp_path.glob("faces.db*"))
    done = run("check", "--store", place, "--seal", f"file:{secret}")
    assert (done.exit_code, "4 faces whole" in done.stdout) == (0, True)

"""`edge-stscq person`, as an operator uses it, and a watch list from photograph to verdict."""

import json
import time
from pathlib import Path

import cv2
import httpx2
import numpy as np
import pytest
from click.testing import Result
from typer.testing import CliRunner

from demo_camera.sample_portraits import portraits
from edge_stscq._images import encode_image, read_image
from edge_stscq._released import MODEL
from edge_stscq.cli.person import person as app
from edge_stscq.server.persons.editing import PersonStore
from edge_stscq.server.storage.sql_face_store import SqlFaceStore
from tests.conftest import REPOSITORY
from tests.demo_camera.service.doubles import Receiver
from tests.server.conftest import Run, Served, local_bearer
from tests.support.models.released import Released

pytestmark = pytest.mark.slow
GRACE, EILEEN = "grace_hopper", "astronaut"


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def answer(*arguments: object) -> dict[str, object]:
    done = call(*arguments, "--json")
    assert done.exit_code in (0, 1), done.exception
    found: dict[str, object] = json.loads(done.stdout)
    return found


def darker(picture: Path, path: Path) -> None:
    """Another picture of the same person."""
    image = read_image(picture)
    path.write_bytes(encode_image(cv2.GaussianBlur((image * 0.8).astype(np.uint8), (3, 3), 0)))


def test_enrolled_person_is_known_and_a_stranger_is_not_kept(
    released: Released, tmp_path: Path, served: Served, run: Run
) -> None:
    place, seen = tmp_path / "faces.db", tmp_path / "seen"
    seen.mkdir()
    enrolled = answer("enroll", "Grace", portraits()[GRACE], "--bundle", released.bundle, "--store", place)
    assert enrolled["photos"][0]["enrolled"] is True  # type: ignore[index]
    for name in (GRACE, EILEEN):
        darker(portraits()[name], seen / f"{name}.png")
    model = REPOSITORY / "models" / MODEL
    secret = tmp_path / "webhook.secret"
    secret.touch(0o600)
    secret.write_text("f" * 64)
    watching = "--model", model, "--store", place, "--watch-list", "--webhook-secret", secret, "--webhook"
    with (
        Receiver(lambda request: (204, {}, b"")).running() as hook,
        served(*watching, f"{hook.url}/visits") as (address, _),
    ):
        sent = "--bundle", released.bundle, "--url", address, "--device", "door", "--json"
        done = run("capture", "--source", seen, *sent)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["acknowledged"] == 2
        with httpx2.Client(base_url=address, headers=local_bearer(address)) as client:
            ends = time.monotonic() + 60
            while not (visits := client.get("/v1/visits").json()["visits"]):
                assert time.monotonic() < ends
                time.sleep(0.05)
            while len(hook.received) < 3:
                assert time.monotonic() < ends
                time.sleep(0.05)
            metrics = client.get("/metrics").text
    (visit,) = visits
    assert (visit["watch"], visit["name"], visit["person"]) == ("known", "Grace", enrolled["person"])
    told = [(one.path, json.loads(one.body)) for one in hook.received]
    assert sorted((path, event["event"], str(event["name"])) for path, event in told) == [
        ("/visits", "known", "Grace"), ("/visits", "unknown", "None"), ("/visits", "visit", "Grace"),
    ]  # fmt: skip
    assert "edge_stscq_watch_list_passed 1.0" in metrics
    assert "edge_stscq_stored_faces 1.0" in metrics
    shown = answer("show", enrolled["person"], "--store", place)
    assert (shown["name"], shown["visits"], shown["enrolled"]) == ("Grace", 1, 1)
    assert call("forget", enrolled["person"], "--store", place, "--yes").exit_code == 0
    assert answer("list", "--store", place) == {"persons": []}


def test_picture_that_the_gate_refuses_enrolls_nobody(released: Released, tmp_path: Path) -> None:
    place, blank = tmp_path / "faces.db", tmp_path / "blank.png"
    blank.write_bytes(encode_image(np.full((480, 640, 3), 120, np.uint8)))
    told = answer("enroll", "Grace", portraits()[GRACE], blank, "--bundle", released.bundle, "--store", place)
    assert (told["edit"], told["person"]) == (None, None)
    assert [one["refused"] for one in told["photos"]] == [None, "no face was found"]  # type: ignore[attr-defined]
    assert call("enroll", "Grace", blank, "--bundle", released.bundle, "--store", place).exit_code == 1
    missing = call("enroll", "Grace", tmp_path / "none.png", "--bundle", released.bundle, "--store", place)
    assert "none.png" in str(missing.exception)
    assert not place.exists(), "nothing was made"


def test_enrolling_twice_adds_a_photograph_and_is_undone(released: Released, tmp_path: Path) -> None:
    place, photo = tmp_path / "faces.db", portraits()[GRACE]
    once = answer("enroll", "Grace", photo, "--bundle", released.bundle, "--store", place)
    again = answer("enroll", "Grace", photo, "--bundle", released.bundle, "--store", place)
    assert again["person"] == once["person"]
    assert answer("show", once["person"], "--store", place)["enrolled"] == 2
    assert answer("undo", "--store", place) == {"edit": again["edit"], "undone": "enroll"}
    assert answer("show", once["person"], "--store", place)["enrolled"] == 1
    assert answer("name", once["person"], "Grace H.", "--store", place)["person"] == once["person"]
    assert [row["name"] for row in answer("list", "--store", place)["persons"]] == ["Grace H."]  # type: ignore[attr-defined]
    assert call("hide", once["person"], "--store", place).exit_code == 0
    assert answer("list", "--store", place) == {"persons": []}
    store = SqlFaceStore(place)
    try:
        assert PersonStore(store).person(int(str(once["person"]))).hidden
    finally:
        store.close()
    log = (tmp_path / "audit.jsonl").read_text()
    assert '"person enroll"' in log
    assert "Grace" not in log

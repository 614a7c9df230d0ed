"""`edge-stscq camera`: many cameras of one file, with a real bundle of a made-up encoder."""

import io
import json
import os
import signal
import subprocess
import sys
import threading
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import Result
from typer.testing import CliRunner

from edge_stscq.cli.camera import _View, camera
from edge_stscq.client.spool import Spool
from edge_stscq.errors import EdgeError
from tests.support.bundles.sums_bundle import write_sums_bundle
from tests.support.installed import need_module

need_module("paho.mqtt", "pip install 'edge-stscq[camera]'")
REPOSITORY = Path(__file__).resolve().parent.parent.parent


def run(*arguments: object) -> Result:
    return CliRunner().invoke(camera, [str(argument) for argument in arguments])


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str], Path]:
    """`write(text)` writes cameras.toml around a bundle and a folder of spools."""
    bundle = write_sums_bundle(tmp_path / "bundle")

    def settings(text: str) -> Path:
        path = tmp_path / "cameras.toml"
        path.write_text(f"bundle = '{bundle}'\n[spool]\nfolder = '{tmp_path / 'spools'}'\n{text}")
        return path

    return settings


def a_camera(name: str, source: object, more: str = "") -> str:
    return f"[[camera]]\nname = '{name}'\nsource = '{source}'\n{more}\n"


def waiting(folder: Path, name: str) -> int:
    with Spool(folder / "spools" / f"{name}.spool", name) as spool:
        return spool.waiting


def test_faces_of_each_camera_are_in_its_spool(
    write: Callable[[str], Path], portrait: dict[str, Path], tmp_path: Path
) -> None:
    (tmp_path / "both").mkdir()
    for name, path in portrait.items():
        (tmp_path / "both" / f"{name}{path.suffix}").write_bytes(path.read_bytes())
    wall = tmp_path / "wall.png"
    cv2.imwrite(str(wall), np.full((200, 300, 3), 120, np.uint8))
    cameras = a_camera("door", tmp_path / "both") + a_camera("yard", wall) + a_camera("hall", portrait["astronaut"])
    done = run("run", write(cameras), "--json")
    assert done.exit_code == 0, done.output
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert sorted(event["camera"] for event in events if event["event"] == "face") == ["door", "door", "hall"]
    assert events[-1]["event"] == "end"
    assert (events[-1]["faces"], events[-1]["waiting"]) == (3, 3)
    assert [waiting(tmp_path, name) for name in ("door", "yard", "hall")] == [2, 0, 1]


def test_lines_for_people_name_the_camera_and_its_trouble(
    write: Callable[[str], Path], portrait: dict[str, Path], tmp_path: Path
) -> None:
    mixed = tmp_path / "mixed"
    mixed.mkdir()
    (mixed / "a.jpg").write_bytes(b"\xff\xd8\xff no more")
    (mixed / "b.png").write_bytes(portrait["astronaut"].read_bytes())
    done = run("run", write(a_camera("door", mixed) + a_camera("hall", portrait["astronaut"])))
    assert done.exit_code == 0, done.output
    assert "camera hall: a face of " in done.stderr
    assert "a.jpg" in next(line for line in done.stderr.splitlines() if line.startswith("camera door: "))
    assert done.stderr.splitlines()[-1] == "ended: 2 faces captured, 2 waiting"


@pytest.fixture
def pipe(tmp_path: Path, portrait: dict[str, Path]) -> Iterator[Path]:
    """A named pipe, a live source, with one portrait again and again; it stays open."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    there, data = cv2.imencode(".jpg", cv2.imread(str(portrait["astronaut"])))
    assert there
    over = threading.Event()

    def film() -> None:
        with path.open("wb", buffering=0) as open_pipe:
            while not over.wait(0.1):
                try:
                    open_pipe.write(data.tobytes())
                except BrokenPipeError:
                    return

    thread = threading.Thread(target=film, daemon=True)
    thread.start()
    yield path
    over.set()
    thread.join(10)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_signal_ends_it_cleanly_and_keeps_the_face_of_the_visit(
    write: Callable[[str], Path], pipe: Path, tmp_path: Path, number: int
) -> None:
    file = write(a_camera("door", pipe, "best_after = 3600"))
    command = [sys.executable, "-P", "-m", "edge_stscq", "camera", "run", str(file), "--json"]
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if json.loads(line)["event"] == "track":
                break
        assert waiting(tmp_path, "door") == 0
        process.send_signal(number)
        rest, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    assert "Traceback" not in errors
    assert [json.loads(line)["event"] for line in rest.splitlines()][-3:] == ["face", "track", "end"]
    assert waiting(tmp_path, "door") == 1


def test_table_has_a_row_a_camera() -> None:
    from rich.console import Console

    from demo_camera.service.lane import Status
    from demo_camera.service.reader import State

    counted = dict.fromkeys(Status.__dataclass_fields__, 0)
    one = Status(**counted | {  # type: ignore[arg-type]
        "name": "door[1]", "state": State.AWAY, "rate": 9.5, "faces": 1234, "refused": {"too dark": 3},
        "silence": 75.2, "waiting": 6, "unkept": 2,
    })  # fmt: skip

    class FakeService:
        def status(self) -> list[Status]:
            return [one]

    console = Console(width=120, record=True, file=io.StringIO())
    console.print(_View(FakeService()).draw())  # type: ignore[arg-type]
    text = console.export_text()
    for word in ("door[1]", "away, 75 s", "9.5", "1,234", "3 too dark", "6 + 2 unwritten"):
        assert word in text


def test_device_that_fails_its_self_test_opens_no_camera(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from edge_stscq.device.encoder import DeviceEncoder

    bundle = write_sums_bundle(tmp_path / "bundle")
    right = DeviceEncoder.run
    monkeypatch.setattr(DeviceEncoder, "run", lambda self, image: (right(self, image)[0], right(self, image)[1] ^ 1))
    file = tmp_path / "cameras.toml"
    file.write_text(f"bundle = '{bundle}'\n[spool]\nfolder = '{tmp_path / 'spools'}'\n" + a_camera("door", "0"))
    from demo_camera.service.runner import Service

    monkeypatch.setattr(Service, "_watch", lambda self: None)
    done = run("run", file, "--json")
    assert done.exit_code == 1
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert [event["event"] for event in events] == ["trouble", "end"]
    assert "computes other tokens than it must" in events[0]["text"]


def test_check_says_everything_and_opens_no_camera(write: Callable[[str], Path], tmp_path: Path) -> None:
    good = write(a_camera("door", "rtsp://127.0.0.1:1/none"))
    done = run("check", good)
    assert (done.exit_code, done.stdout) == (0, f"{good}: 1 camera, nothing wrong\n")
    bad = write(a_camera("door", "0", "rotat = 1") + a_camera("yard", "0", "layers = 0"))
    done = run("check", bad)
    assert done.exit_code == 1
    assert [line.partition(":")[0] for line in done.stdout.splitlines()] == [
        "[[camera]] door, rotat", "[[camera]] yard, layers"
    ]  # fmt: skip
    done = run("check", bad, "--json")
    assert len(json.loads(done.stdout)["problems"]) == 2
    assert not (tmp_path / "spools").exists()


def test_check_looks_at_the_bundle(write: Callable[[str], Path], tmp_path: Path) -> None:
    file = write(a_camera("door", "0"))
    (tmp_path / "bundle" / "encoder.onnx").write_bytes(b"other")
    done = run("check", file)
    assert done.exit_code == 1
    assert done.stdout.startswith("bundle: ")


def test_check_knows_the_layers_of_the_model(write: Callable[[str], Path]) -> None:
    assert run("check", write(a_camera("door", "0", "layers = 3"))).exit_code == 0
    done = run("check", write(a_camera("door", "0", "layers = 4")))
    assert done.stdout == "[[camera]] door, layers: the model has 3; give so many or less\n"


def test_run_refuses_what_check_finds(write: Callable[[str], Path], tmp_path: Path) -> None:
    done = run("run", write(a_camera("door", "0", "rotat = 1") + a_camera("yard", "0", "layers = 0")))
    assert isinstance(done.exception, EdgeError)
    assert "did you mean rotate?; and 1 more, see: edge-stscq camera check" in str(done.exception)


def test_schema_is_one_that_the_example_keeps_to(tmp_path: Path) -> None:
    jsonschema = need_module("jsonschema", "pip install jsonschema")
    done = run("schema")
    assert done.exit_code == 0
    validator = jsonschema.Draft202012Validator(json.loads(done.stdout))
    example = tomllib.loads((REPOSITORY / "deploy" / "camera" / "cameras.toml").read_text())
    assert not list(validator.iter_errors(example))
    assert list(validator.iter_errors(example | {"bundel": "x"}))

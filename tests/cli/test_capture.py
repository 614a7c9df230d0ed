"""`edge-stscq capture` from picture files to a stream file and a server, with a real bundle of a made-up encoder."""

import json
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import cv2
import numpy as np
import pytest
import typer
from click.testing import Result
from typer.testing import CliRunner

from edge_stscq._images import read_image
from edge_stscq.bundle import open_bundle
from edge_stscq.bundle.manifest import CropSpec
from edge_stscq.cli.capture import capture
from edge_stscq.client.spool import Spool
from edge_stscq.errors import EdgeError
from edge_stscq.stream.arithmetic import Decoder, Encoder
from edge_stscq.stream.wire import read_frames, section_header, write_stream
from tests.support.bundles.sums_bundle import answer, write_sums_bundle
from tests.support.fakes import stream_acknowledgement

app = typer.Typer()
app.command()(capture)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return write_sums_bundle(tmp_path / "bundle")


@pytest.fixture
def folder(tmp_path: Path, portrait: dict[str, Path]) -> Path:
    """Both portraits and a picture without a face between them."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name, path in portrait.items():
        (folder / f"{name}{path.suffix}").write_bytes(path.read_bytes())
    cv2.imwrite(str(folder / "b_wall.png"), np.full((200, 300, 3), 120, np.uint8))
    return folder


def section_of(path: Path) -> bytes:
    """Header of the only section of a file."""
    (section,) = {id(section): section for section, _ in read_frames(path.read_bytes())}.values()
    return section_header(section)


def test_pictures_become_a_stream_file_and_crops(folder: Path, bundle: Path, tmp_path: Path) -> None:
    output, crops = tmp_path / "faces.stsq", tmp_path / "crops"
    done = run("--source", folder, "--bundle", bundle, "-o", output, "--save-crops", crops, "--json")
    assert done.exit_code == 0, done.exception
    report = json.loads(done.stdout)
    assert (report["pictures"], report["faces"], report["refused"]) == (3, 2, {"no face": 1})
    opened = open_bundle(bundle)
    assert report["model_id"] == opened.manifest.model_id
    faces = list(opened.frames.read(output.read_bytes()))
    assert report["payload_bytes"] == sum(len(opened.frames.payload(face)) for face in faces)
    header = len(write_stream([], bytes(16))) + len(section_of(output))
    assert output.stat().st_size - header <= report["wire_bytes"] <= output.stat().st_size - header + 2 * 4
    assert sorted(path.name for path in crops.iterdir()) == ["000000.png", "000001.png"]
    for number, face in enumerate(faces):
        group, tokens = answer(read_image(crops / f"{number:06d}.png"))
        assert (face.group, face.tokens.tolist()) == (group, tokens)


def test_a_table_is_shown_without_json(folder: Path, bundle: Path, tmp_path: Path) -> None:
    done = run("--source", folder, "--bundle", bundle, "-o", tmp_path / "faces.stsq")
    assert done.exit_code == 0, done.exception
    for words in ("pictures", "refused", "1 no face", "a face", "faces.stsq: look at it with"):
        assert words in done.stdout


@pytest.mark.parametrize("layers", [1, 2])
def test_limit_and_layers(layers: int, folder: Path, bundle: Path, tmp_path: Path) -> None:
    output = tmp_path / "faces.stsq"
    done = run("--source", folder, "--bundle", bundle, "-o", output, "--limit", 1, "--layers", layers, "--json")
    assert done.exit_code == 0, done.exception
    (face,) = list(open_bundle(bundle).frames.read(output.read_bytes()))
    assert face.layers == layers
    assert json.loads(done.stdout)["pictures"] == 1


def test_faces_wait_in_a_spool_basic_layers_first(folder: Path, bundle: Path, tmp_path: Path) -> None:
    spool, output = tmp_path / "faces.spool", tmp_path / "faces.stsq"
    common = ("--source", folder, "--bundle", bundle, "--spool", spool, "--device", "door-1", "-o", output, "--json")
    assert json.loads(run(*common).stdout)["spool"] == str(spool)
    opened = open_bundle(bundle)
    faces = list(opened.frames.read(output.read_bytes()))
    with Spool(spool) as kept:
        first = kept.lease(9, 60)
        assert first is not None
        assert kept.settle(first) == 0
        rest = kept.lease(9, 60)
        assert rest is not None
        assert (kept.device, first.first, rest.first, first.model_id) == ("door-1", 0, 0, opened.frames.model_id)
    assert [opened.frames.face(frame) for frame in rest.frames] == faces
    ends = opened.frames.entropy.layer_ends
    assert [opened.frames.face(frame) for frame in first.frames] == [face.truncate(1, ends) for face in faces]
    assert run(*common, "--layers", 1).exit_code == 0
    with Spool(spool) as kept:
        assert (kept.status().next, kept.status().basic_waiting) == (4, 2)
    assert "send faces twice" in str(run(*common, "--url", "http://127.0.0.1:9").exception)


@pytest.mark.parametrize(("layers", "codings"), [(1, 1), (2, 2), (3, 2)])
def test_each_frame_of_a_face_is_entropy_coded_once_and_none_is_decoded(
    layers: int, codings: int, folder: Path, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: Counter[str] = Counter()
    finish, pop_all = Encoder.finish, Decoder.pop_all

    def count_finish(self: Encoder) -> bytes:
        calls["coded"] += 1
        return finish(self)

    def count_pop(self: Decoder, rows: Iterable[Sequence[int]]) -> list[int]:
        calls["decoded"] += 1
        return pop_all(self, rows)

    monkeypatch.setattr(Encoder, "finish", count_finish)
    monkeypatch.setattr(Decoder, "pop_all", count_pop)
    output, common = tmp_path / "faces.stsq", ("--source", folder, "--bundle", bundle, "--layers", layers)
    assert run(*common, "--spool", tmp_path / "faces.spool", "-o", output).exit_code == 0
    assert calls == {"coded": 2 * codings}, "two portraits, each whole and with its basic layer"
    list(open_bundle(bundle).frames.read(output.read_bytes()))
    assert calls["decoded"] > 0, "the counter would have seen it"


@pytest.fixture
def server() -> Iterator[tuple[str, list[bytes]]]:
    """An address, and the bodies that arrive there."""
    got: list[bytes] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:  # noqa: N802 - the name that http.server calls
            body = self.rfile.read(int(self.headers["Content-Length"]))
            got.append(body)
            receipt = stream_acknowledgement(body).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(receipt)))
            self.end_headers()
            self.wfile.write(receipt)

        def log_message(self, *arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        thread = threading.Thread(target=listening.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.server_port}", got
        finally:
            listening.shutdown()
            thread.join()


def test_frames_reach_a_server_as_they_are_in_the_file(
    server: tuple[str, list[bytes]], folder: Path, bundle: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr("demo_camera.sinks.PERIOD", 1e9)
    url, got = server
    output = tmp_path / "faces.stsq"
    done = run(
        "--source", folder, "--bundle", bundle, "-o", output, "--json", "--url", url, "--device", "door",
    )  # fmt: skip
    assert done.exit_code == 0, done.exception
    assert json.loads(done.stdout)["acknowledged"] == 2
    assert got == [output.read_bytes()]
    assert section_of(output).count(b"\x04door") == 1


def rejected(*arguments: object) -> str:
    """The one-line error of a run that has to fail."""
    done = run(*arguments)
    assert isinstance(done.exception, EdgeError), done.output
    message = str(done.exception)
    assert "\n" not in message
    return message


def test_bad_sources_leave_no_file(bundle: Path, tmp_path: Path, portrait: dict[str, Path]) -> None:
    output = tmp_path / "out" / "faces.stsq"
    output.parent.mkdir()
    wall, broken = tmp_path / "wall.png", tmp_path / "broken.jpg"
    cv2.imwrite(str(wall), np.full((200, 300, 3), 120, np.uint8))
    broken.write_bytes(portrait["grace_hopper"].read_bytes()[:9000])
    for source, words in ((wall, "no face found"), (broken, "damaged"), (tmp_path / "nowhere", "does not exist")):
        assert words in rejected("--source", source, "--bundle", bundle, "-o", output)
        assert list(output.parent.iterdir()) == []


def test_a_folder_with_a_corrupt_picture_leaves_no_file(folder: Path, bundle: Path, tmp_path: Path) -> None:
    (folder / "z.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    assert "z.png is damaged" in rejected("--source", folder, "--bundle", bundle, "-o", tmp_path / "faces.stsq")
    assert not (tmp_path / "faces.stsq").exists()


def test_something_has_to_be_kept(folder: Path, bundle: Path) -> None:
    assert "nothing would be kept" in rejected("--source", folder, "--bundle", bundle)


def test_a_bundle_for_other_crops_is_refused(folder: Path, tmp_path: Path) -> None:
    mirrored = tuple((112 - x, y) for x, y in CropSpec().template)
    bundle = write_sums_bundle(tmp_path / "other", crop=CropSpec(template=mirrored))
    message = rejected("--source", folder, "--bundle", bundle, "-o", tmp_path / "faces.stsq")
    assert "crops that this camera does not make" in message

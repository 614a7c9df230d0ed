"""`edge-stscq encode`: crops to a stream file, or an error and no file."""

import json

import cv2
import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from edge_stscq.bundle import open_bundle
from edge_stscq.cli.encode import encode
from edge_stscq.errors import EdgeError
from edge_stscq.stream.arithmetic import Encoder
from tests.support.bundles.sums_bundle import CONFIG, answer

app = typer.Typer()
app.command()(encode)


@pytest.fixture
def pictures(tmp_path):
    """Three different crops, without loss, in three formats."""
    random = np.random.default_rng(3)
    found = {}
    for name in ("a.png", "b.bmp", "c.tiff"):
        crop = random.integers(0, 256, (128, 128, 3), np.uint8)
        cv2.imwrite(str(tmp_path / name), crop[..., ::-1])
        found[tmp_path / name] = crop
    return found


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_crops_become_a_stream_with_sizes(sums_bundle, pictures, tmp_path, layers):
    output = tmp_path / "faces.stsq"
    done = run(sums_bundle, *pictures, "-o", output, "--layers", layers, "--json")
    assert done.exit_code == 0, done.exception
    report, frames = json.loads(done.stdout), open_bundle(sums_bundle).frames
    faces = list(frames.read(output.read_bytes()))
    end = CONFIG.layer_ends[layers - 1]
    assert [(f.group, f.tokens.tolist()) for f in faces] == [
        (group, tokens[:end]) for group, tokens in map(answer, pictures.values())
    ]
    assert report["model_id"] == frames.model_id.hex()
    assert [row["file"] for row in report["faces"]] == [str(path) for path in pictures]
    assert [row["payload_bytes"] for row in report["faces"]] == [frames.frame(face).payload_bytes for face in faces]
    wire = [row["wire_bytes"] for row in report["faces"]]
    assert wire == [row["payload_bytes"] + 6 for row in report["faces"]]
    assert report["stream_bytes"] == len(output.read_bytes()) == sum(wire) + report["header_bytes"]


def test_each_face_is_entropy_coded_once(sums_bundle, pictures, tmp_path, monkeypatch):
    monkeypatch.setattr("edge_stscq.device.encoder._verify", lambda encoder: None)  # it codes the golden payloads
    coded, finish = [], Encoder.finish
    monkeypatch.setattr(Encoder, "finish", lambda self: coded.append(self) or finish(self))
    assert run(sums_bundle, *pictures, "-o", tmp_path / "faces.stsq").exit_code == 0
    assert len(coded) == len(pictures)


def test_table_names_files_and_the_next_command(sums_bundle, pictures, tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "300")
    output = tmp_path / "faces.stsq"
    done = run(sums_bundle, *pictures, "-o", output)
    assert done.exit_code == 0, done.exception
    for path in pictures:
        assert str(path) in done.output
    assert f"edge-stscq decode {output}" in done.output


def refused(*arguments):
    done = run(*arguments)
    assert isinstance(done.exception, EdgeError), done.exception
    return str(done.exception)


def test_a_picture_of_another_size_points_to_capture(sums_bundle, pictures, tmp_path):
    photo = tmp_path / "photo.jpg"
    cv2.imwrite(str(photo), np.zeros((240, 320, 3), np.uint8))
    message = refused(sums_bundle, *pictures, photo, "-o", tmp_path / "out.stsq")
    assert "photo.jpg is 320 x 240, an aligned crop is 128 x 128" in message
    assert f"edge-stscq capture --source {photo} --bundle {sums_bundle}" in message
    assert not (tmp_path / "out.stsq").exists()


@pytest.mark.parametrize("content", [b"", b"not a picture", "half"])
def test_a_corrupt_picture_leaves_no_file(sums_bundle, pictures, tmp_path, content):
    bad = tmp_path / "bad.png"
    whole = (tmp_path / "a.png").read_bytes()
    bad.write_bytes(whole[: len(whole) // 2] if content == "half" else content)
    before = set(tmp_path.iterdir())
    assert "bad.png is damaged or not a picture" in refused(sums_bundle, *pictures, bad, "-o", tmp_path / "out.stsq")
    assert set(tmp_path.iterdir()) == before


def test_an_absent_picture_or_folder_is_named(sums_bundle, pictures, tmp_path):
    assert "absent.png" in refused(sums_bundle, tmp_path / "absent.png", "-o", tmp_path / "out.stsq")
    assert "cannot write" in refused(sums_bundle, *pictures, "-o", tmp_path / "absent" / "out.stsq")


def test_all_layers_unless_fewer_are_asked_for(sums_bundle, pictures, tmp_path):
    output = tmp_path / "faces.stsq"
    assert json.loads(run(sums_bundle, *pictures, "-o", output, "--json").stdout)["layers"] == 3
    assert {face.layers for face in open_bundle(sums_bundle).frames.read(output.read_bytes())} == {3}
    output.unlink()
    assert "model sums has 3 layers (basic, middle, enhanced); choose 1 to 3" in refused(
        sums_bundle, *pictures, "-o", output, "--layers", 4
    )
    assert not output.exists()

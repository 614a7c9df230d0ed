"""`edge-stscq decode`, as a user runs it."""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge_stscq.bundle.model_folder import load_frame_codec
from edge_stscq.cli import main
from edge_stscq.codec.face_decoder import FaceDecoder
from edge_stscq.stream import CodedFace, FrameCodec

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """`run("decode", ...)`: exit code, stdout and stderr."""

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["edge-stscq", *map(str, arguments)])
        code: object = 0
        try:
            main()
        except SystemExit as stop:
            code = stop.code
        out, err = capsys.readouterr()
        return int(code or 0), out, err

    return call


@pytest.fixture(scope="module")
def codec(tiny_model: Path) -> FrameCodec:
    return load_frame_codec(tiny_model)


@pytest.fixture(scope="module")
def faces(codec: FrameCodec) -> list[CodedFace]:
    """Forty faces, so that more than one batch is decoded; the last has its basic layer only."""
    random = np.random.default_rng(0)
    ends = codec.entropy.layer_ends
    whole = [CodedFace(n % 2, random.integers(16, size=ends[2]).astype(np.uint16), 3) for n in range(40)]
    return [*whole[:-1], whole[-1].truncate(1, ends)]


@pytest.fixture
def stream(codec: FrameCodec, faces: list[CodedFace], tmp_path: Path) -> Path:
    path = tmp_path / "faces.stsq"
    path.write_bytes(codec.encode_stream(faces))
    return path


def read(path: Path) -> np.ndarray:
    return cv2.imread(str(path))[:, :, ::-1]


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_every_face_becomes_a_picture(
    run: Run,
    codec: FrameCodec,
    faces: list[CodedFace],
    stream: Path,
    tiny_model: Path,
    tmp_path: Path,
    layers: int,
) -> None:
    output = tmp_path / "deep" / "out"
    code, out, err = run("decode", stream, "--model", tiny_model, "-o", output, "--layers", layers, "--json")
    assert (code, err) == (0, "")
    report = json.loads(out)
    assert report["model_id"] == codec.model_id.hex()
    assert [Path(face["file"]).name for face in report["faces"]] == [f"{number:06d}.png" for number in range(40)]
    assert sorted(os.listdir(output)) == [f"{number:06d}.png" for number in range(40)]
    for number in (0, 33, 39):
        used = min(layers, faces[number].layers)
        assert report["faces"][number]["layers"] == used
        alone = FaceDecoder(tiny_model).decode([faces[number].truncate(used, codec.entropy.layer_ends)])[0]
        assert np.abs(read(output / f"{number:06d}.png").astype(int) - alone.astype(int)).max() <= 1


def test_fewer_layers_cost_fewer_bytes(run: Run, stream: Path, tiny_model: Path, tmp_path: Path) -> None:
    sizes = []
    for layers in (1, 2, 3):
        _, out, _ = run("decode", stream, "--model", tiny_model, "-o", tmp_path / "out", "--layers", layers, "--json")
        sizes.append(json.loads(out)["faces"][0]["payload_bytes"])
    assert sizes == sorted(set(sizes))


def test_the_table_is_for_people(run: Run, stream: Path, tiny_model: Path, tmp_path: Path) -> None:
    code, out, _ = run("decode", stream, "--model", tiny_model, "-o", tmp_path / "out")
    assert code == 0
    assert "40 faces of tiny" in out


def test_damage_names_the_frame_and_writes_nothing(
    run: Run, codec: FrameCodec, faces: list[CodedFace], stream: Path, tiny_model: Path, tmp_path: Path
) -> None:
    whole = stream.read_bytes()
    start = len(codec.encode_stream(faces[:7]))
    flipped = bytearray(whole)
    flipped[start + 4] ^= 0x10
    foreign = FrameCodec(codec.entropy, b"\xab" * 8).encode_stream(faces)
    for data, part in (
        (bytes(flipped), "frame 7"),
        (whole[: start + 3], "frame 7"),
        (foreign, "abababababababab"),
        (b"", "truncated"),
        (b"JFIF" + whole, "not a stream"),
        (whole[:13], "no frame"),
    ):
        stream.write_bytes(data)
        code, out, err = run("decode", stream, "--model", tiny_model, "-o", tmp_path / "out", "--json")
        assert (code, out) == (2, "")
        assert part in err
        assert err.startswith("error: ")
        assert err.count("\n") == 1
        assert not (tmp_path / "out").exists()


def test_missing_pieces_are_one_line(run: Run, stream: Path, tiny_model: Path, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("in the way")
    for arguments in (
        (tmp_path / "none.stsq", "--model", tiny_model, "-o", tmp_path / "out"),
        (stream, "--model", tmp_path / "none", "-o", tmp_path / "out"),
        (stream, "--model", tiny_model, "-o", file),
    ):
        code, out, err = run("decode", *arguments)
        assert (code, out) == (2, "")
        assert err.startswith("error: ")
        assert err.count("\n") == 1


def test_more_layers_than_the_model_has_are_refused(run: Run, stream: Path, tiny_model: Path, tmp_path: Path) -> None:
    code, out, err = run("decode", stream, "--model", tiny_model, "-o", tmp_path / "out", "--layers", 4)
    assert (code, out) == (2, "")
    assert err == "error: cannot take 4 layers: model tiny has 3 layers (basic, middle, enhanced); choose 1 to 3\n"
    assert not (tmp_path / "out").exists()

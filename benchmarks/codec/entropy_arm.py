"""Frames written here and read on emulated 64-bit Arm: the same faces, and the same bytes when they are written again.

    make arm
    python -m benchmarks.codec.entropy_arm [--model DIR]    -> benchmarks/results/entropy-arm-MODEL.json

Half of the faces are drawn as the static tables expect them and half evenly, with 1, 2, ... and all layers in turn;
each coder writes all of them. The emulated program reads the model folder and the files alone.
"""

import json
import subprocess
import sys
import tempfile
from hashlib import sha256
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from benchmarks.equality.arm import EMULATOR, PARTS, Arm
from benchmarks.record import write
from benchmarks.released import MODEL
from edge_stscq.bundle import model_folder
from edge_stscq.stream import CodedFace, FrameCodec
from edge_stscq.stream.frame import coder_id_of
from edge_stscq.stream.packed import CoderName

ROOT = Path(__file__).resolve().parents[2]
FACES = 200
CODERS: tuple[CoderName, ...] = ("static", "packed", "learned")


def codecs(model: Path) -> dict[str, FrameCodec]:
    """Codec of the model's frames by each coder."""
    found, learned = model_folder.load_frame_codec(model), model_folder.load_learned(model)
    return {
        name: FrameCodec(found.entropy, found.model_id, coder_id_of(name, learned), learned)
        for name in CODERS
    }


def draw(codec: FrameCodec, count: int) -> list[CodedFace]:
    """Faces of the model, the same every time."""
    random, (groups, _, entries) = np.random.default_rng(0), codec.entropy.shape
    rows = dict(codec.entropy.parameters())["frequencies"].astype(float) / 65536
    faces = []
    for number in range(count):
        layers, group = 1 + number % len(codec.entropy.layer_ends), int(random.integers(groups))
        end = codec.entropy.layer_ends[layers - 1]
        even = random.integers(entries, size=end)
        likely = [random.choice(entries, p=row) for row in rows[group, :end]]
        faces.append(CodedFace(group, np.array(even if number % 2 else likely, np.uint16), layers))
    return faces


def digest(codec: FrameCodec, data: bytes) -> dict[str, str]:
    """Hashes of the faces in a file, and of the file that is written of them."""
    faces = list(codec.read(data))
    told = json.dumps([[face.group, face.layers, *face.tokens.tolist()] for face in faces])
    return {"faces": sha256(told.encode()).hexdigest(), "file": sha256(codec.write(faces)).hexdigest()}


def read(model: Path, folder: Path) -> dict[str, dict[str, str]]:
    """Hashes of what is in the file of each coder; this runs on both sides."""
    return {name: digest(codec, (folder / f"{name}.stsq").read_bytes()) for name, codec in codecs(model).items()}


def main(
    model: Annotated[Path, typer.Option(help="Model folder, with a learned coder.")] = MODEL,
    read_only: Annotated[Path | None, typer.Option(hidden=True, help="Folder of files: print what is in them.")] = None,
) -> None:
    """Write benchmarks/results/entropy-arm-NAME.json."""
    if read_only is not None:
        typer.echo(json.dumps(read(model, read_only)))
        return
    arm = Arm(ROOT / ".cache")
    arm.check()
    with tempfile.TemporaryDirectory() as name:
        folder, sizes = Path(name), {}
        for coder, codec in codecs(model).items():
            faces = draw(codec, FACES)
            (folder / f"{coder}.stsq").write_bytes(codec.write(faces))
            assert list(codec.read((folder / f"{coder}.stsq").read_bytes())) == faces
            sizes[coder] = (folder / f"{coder}.stsq").stat().st_size
        here, there = read(model, folder), {}
        for core in PARTS:
            settings = ["-E", f"PYTHONPATH={arm.site}", "-E", "OMP_NUM_THREADS=1"]
            words = [str(arm.python), "-m", "benchmarks.codec.entropy_arm", "--model", str(model.resolve())]
            command = [EMULATOR, "-L", str(arm.root(core)), "-cpu", core, *settings, *words, "--read-only", str(folder)]
            done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
            if done.returncode:
                sys.exit(f"{core}: {done.stderr[-2000:]}")
            answer = json.loads(done.stdout)
            there[core] = {coder: answer[coder] == here[coder] for coder in CODERS}
            typer.echo(f"{core}: {there[core]}")
    content = {"model": model.name, "faces": FACES, "file_bytes": sizes, "here": here, "equal": there}
    typer.echo(write(f"entropy-arm-{model.name}", content))
    if not all(all(one.values()) for one in there.values()):
        sys.exit("a processor reads or writes other bytes")


if __name__ == "__main__":
    typer.run(main)

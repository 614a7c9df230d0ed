"""`edge-stscq demo`: two public-domain portraits from picture to bytes to picture, through the real commands.

Every step is a command that is printed before it runs, so that the demo is also the shortest manual: export, capture
with a server listening, parity. What comes back after each layer is put on one contact sheet.
"""

import os
import select
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from demo_camera.sheet import Row

CAMERAS = {"onnx": "ONNX Runtime", "executorch": "ExecuTorch"}
"""Targets that capture here, and what runs them."""
TARGETS = (*CAMERAS, "coreml")
START_SECONDS = 60
PROGRAM = (sys.executable, "-c", "from edge_stscq.cli import main; main()")
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "EDGE_STSCQ_TOKEN"}
"""The demo's server is its own and asks for no token."""


def demo(
    model: Annotated[Path, typer.Option(help="Model folder.")] = Path("models/face64"),
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the results; made if absent.")] = Path(
        "out/demo"
    ),
) -> None:
    """Export three targets, capture two portraits with two of them, send, decode layer by layer and compare."""
    import shutil

    from demo_camera.portraits import portraits
    from demo_camera.sheet import contact_sheet, png
    from edge_stscq.device import open_bundle
    from edge_stscq.errors import EXIT_CHECK_FAILED, EdgeError, require
    from edge_stscq.stream.files import write_file

    require("fastapi", "all")
    require("torch", "all")
    start = time.monotonic()
    pictures, crops = output / "portraits", output / "crops"
    names = sorted(portraits())
    try:
        pictures.mkdir(parents=True, exist_ok=True)
        for source in portraits().values():
            shutil.copyfile(source, pictures / source.name)
    except OSError as error:
        raise EdgeError(f"cannot write to {output}: {error.strerror}; choose another folder with -o") from None

    _run("export", "--model", model, "--target", "all", "-o", output / "bundles", "--force")
    rows: list[Row] = []
    with _server(model) as url:
        for target in CAMERAS:
            _run(
                "capture", "--source", pictures, "--bundle", _bundle(output, target), "--save-crops", crops,
                "--send", url, "--device", target, "-o", output / f"{target}.stsq",
            )  # fmt: skip
            rows += _rows(url, target, names, output)
    sheet = output / "contact_sheet.png"
    first, *further = open_bundle(_bundle(output, next(iter(CAMERAS)))).config.layer_names
    headings = ("original crop", first, *(f"+ {name}" for name in further))
    write_file(sheet, png(contact_sheet(headings, rows)))

    bundles = [_bundle(output, target) for target in TARGETS]
    if _run("parity", *bundles, "--model", model, "--faces", crops, allowed=EXIT_CHECK_FAILED):
        typer.echo(f"parity is below its thresholds on these {len(names)} faces; judge it on more of them")
    typer.echo(f"\n{sheet}: look at it. All this took {time.monotonic() - start:.0f} seconds.")


def _bundle(output: Path, target: str) -> Path:
    return output / "bundles" / f"{target}-int8"


def _run(*words: object, allowed: int = 0) -> int:
    """Print one of this program's commands and run it; its exit code.

    Raises:
        typer.Exit: it failed with another code than `allowed`; it has said why.
    """
    arguments = [str(word) for word in words]
    typer.secho(f"\n$ edge-stscq {' '.join(arguments)}", bold=True)
    sys.stdout.flush()
    code = subprocess.run([*PROGRAM, *arguments], env=ENVIRONMENT, check=False).returncode
    if code not in (0, allowed):
        typer.echo(f"error: `edge-stscq {arguments[0]}` ended with exit code {code}; the demo stops here", err=True)
        raise typer.Exit(code if code > 0 else 1)
    return code


@contextmanager
def _server(model: Path) -> Iterator[str]:
    """A server on a free port of this machine, with a store of its own that goes away with it; yields its address."""
    with TemporaryDirectory() as folder:
        arguments = ["serve", "--model", str(model), "--port", "0", "--store", os.path.join(folder, "faces.db")]
        typer.secho(f"\n$ edge-stscq {' '.join(arguments)} &", bold=True)
        process = subprocess.Popen([*PROGRAM, *arguments], env=ENVIRONMENT, stdout=subprocess.PIPE, text=True)
        try:
            yield _address(process)
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            if process.stdout is not None:
                process.stdout.close()


def _address(process: "subprocess.Popen[str]") -> str:
    """Wait until the server says where it listens and answers there."""
    import httpx2

    from edge_stscq.errors import EdgeError

    assert process.stdout is not None
    deadline = time.monotonic() + START_SECONDS
    said, _, _ = select.select([process.stdout], [], [], START_SECONDS)
    line = process.stdout.readline().strip() if said else ""
    typer.echo(line)
    url = next((word for word in line.split() if word.startswith("http://")), None)
    while url is not None and process.poll() is None and time.monotonic() < deadline:
        try:
            if httpx2.get(f"{url}/ready").is_success:
                return url
        except httpx2.TransportError:
            pass
        time.sleep(0.1)
    raise EdgeError(f"the server did not start within {START_SECONDS} seconds; try: edge-stscq serve --model MODEL")


def _rows(url: str, target: str, names: Sequence[str], output: Path) -> "list[Row]":
    """One row a portrait: its crop, and what the server paints from its first layer, first two layers, ...."""
    import httpx2

    from demo_camera.sheet import Row, Tile
    from demo_camera.source import read_picture
    from edge_stscq.device import open_bundle
    from edge_stscq.errors import EdgeError
    from edge_stscq.stream.files import write_file

    bundle = open_bundle(_bundle(output, target))
    ends, rows = bundle.config.layer_ends, []
    (output / "faces").mkdir(exist_ok=True)
    faces = bundle.frames.decode_stream((output / f"{target}.stsq").read_bytes())
    for number, (name, face) in enumerate(zip(names, faces, strict=True)):
        crop = read_picture(output / "crops" / f"{number:06d}.png")
        tiles = [Tile(crop, f"{crop.size:,} bytes of pixels")]
        for layers in range(1, face.layers + 1):
            answer = httpx2.get(f"{url}/v1/faces/{target}-{number}.png", params={"layers": layers})
            if not answer.is_success:
                raise EdgeError(f"the server does not give back face {target}-{number}: {answer.text}")
            path = output / "faces" / f"{target}-{name}-{layers}.png"
            write_file(path, answer.content)
            payload = bundle.frames.payload_size(face.truncate(layers, ends))
            tiles.append(Tile(read_picture(path), f"{payload} bytes"))
        rows.append(Row(f"{name.replace('_', ' ')}, {CAMERAS[target]}", tiles))
    return rows

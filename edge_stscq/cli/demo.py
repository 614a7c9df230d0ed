"""`edge-stscq demo`: two public-domain portraits from picture to bytes to picture, through the real commands.

Every step is a command that is printed before it runs, so that the demo is also the shortest manual: export, serve,
capture. What comes back after each layer is put on one contact sheet, beside the smallest JPEG and WebP.
"""

import io
import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edge_stscq.cli.options import MODEL, AsJson, Model
from edge_stscq.cli.ui import count
from targets import TARGETS

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from edge_stscq._images import Tile
    from edge_stscq.stream.envelope import WireFrame

START_SECONDS = 180
PROGRAM = (sys.executable, "-P", "-m", "edge_stscq")
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "EDGE_STSCQ_TOKEN"}
"""The demo's server is its own, with a token of its own, which the commands find."""
SMALLEST = {"JPEG": {"quality": 0, "optimize": True}, "WebP": {"quality": 0, "method": 6}}
"""Pillow's options for the smallest file of each format at the size of the crop."""


def demo(
    model: Model = MODEL,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the results; made if absent.")] = Path(
        "out/demo"
    ),
    serve: Annotated[
        bool, typer.Option("--serve", help="Leave the server running until Ctrl-C; open its page.")
    ] = False,
    no_browser: Annotated[bool, typer.Option("--no-browser", help="With --serve: only print the address.")] = False,
    as_json: AsJson = False,
) -> None:
    """Export what runs here, capture two portraits, send them to a server and decode them layer by layer."""
    import shutil
    import webbrowser

    from demo_camera.sample_portraits import portraits
    from edge_stscq._files import make_folder, write_file
    from edge_stscq._images import Row, contact_sheet, encode_image
    from edge_stscq.bundle import open_bundle
    from edge_stscq.errors import EdgeError, require

    for module in ("fastapi", "torch", "PIL"):
        require(module, "demo")
    start = time.monotonic()
    out = sys.stderr if as_json else sys.stdout
    pictures, crops = output / "portraits", output / "crops"
    names = sorted(portraits())
    make_folder(pictures)
    try:
        for source in portraits().values():
            shutil.copyfile(source, pictures / source.name)
    except OSError as error:
        raise EdgeError(f"cannot write to {output}: {error.strerror}; choose another folder with -o") from None

    bundles = _bundles(model, output, out)
    with _server(model, out) as (url, process):
        for target, bundle in bundles.items():
            shutil.rmtree(crops, ignore_errors=True)  # of the target before, or of an earlier demo: the same two
            _run(
                out, "capture", "--source", pictures, "--bundle", bundle, "--save-crops", crops, "--url", url,
                "--device", target, "-o", output / f"{target}.stsq", "--quiet",
            )  # fmt: skip
        target, bundle = next(iter(bundles.items()))
        faces = [_tiles(url, target, number, name, bundle, output) for number, name in enumerate(names)]
        first, *further = open_bundle(bundle).config.layer_names
        headings = ("original crop", *(f"smallest {name}" for name in SMALLEST), first, *(f"+ {n}" for n in further))
        sheet = output / "contact_sheet.png"
        rows = [Row(name.replace("_", " "), tiles) for name, tiles in zip(names, faces, strict=True)]
        write_file(sheet, encode_image(contact_sheet(headings, rows)))
        seconds = time.monotonic() - start
        if as_json:
            report = {"sheet": str(sheet), "url": url if serve else None, "seconds": round(seconds, 2),
                      "bundles": {name: str(path) for name, path in bundles.items()},
                      "faces": {name: {heading: tile.caption for heading, tile in zip(headings, tiles, strict=True)}
                                for name, tiles in zip(names, faces, strict=True)}}  # fmt: skip
            typer.echo(json.dumps(report))
        print(f"\n{sheet}: look at it. All this took {seconds:.1f} seconds.", file=out)
        _say_what_is_equal(bundles, output, out)
        judged = " ".join(str(path) for path in bundles.values())
        print(f"Two faces judge nothing; for that: edge-stscq parity {judged} --model {model} --faces CROPS", file=out)
        if not serve:
            print("See them arrive in a page: edge-stscq demo --serve", file=out, flush=True)
            return
        print(f"The page: {url}/ (Ctrl-C ends the server)", file=out, flush=True)
        if not no_browser:
            webbrowser.open(_page_with_token(url, output))
        try:
            process.wait()
        except KeyboardInterrupt:
            print("", file=out)


def _page_with_token(url: str, output: Path) -> str:
    """Address of a file that leads to the page with its token: other users see what a browser is started with."""
    from edge_stscq._files import write_file
    from edge_stscq._local_servers import local_token

    page = output / "page.html"
    address = f"{url}/#token={local_token(url)}"
    write_file(page, f'<meta http-equiv="refresh" content="0; url={address}">'.encode(), private=True)
    return page.absolute().as_uri()


def _bundles(model: Path, output: Path, out: Any) -> dict[str, Path]:
    """Bundle of each target that can be exported and run here; the released one where none can be exported."""
    from importlib.util import find_spec

    from edge_stscq.bundle.model_folder import load_config
    from edge_stscq.hub import resolve

    if find_spec("torchao") is None or find_spec("executorch") is None:
        return {"onnx": resolve(f"{load_config(model).name}:onnx-int8")}
    found = {}
    for target in TARGETS:
        if target.runtime.unavailable() is None and all(find_spec(package) for package in target.packages):
            _run(
                out, "export", "--model", model, "--target", target.name, "-o", output / "bundles", "--force", "--quiet"
            )
            found[target.name] = output / "bundles" / f"{target.name}-int8"
    return found


def _run(out: Any, *words: object) -> None:
    """Print one of this program's commands and run it.

    Raises:
        typer.Exit: it failed; it has said why.
    """
    arguments = [str(word) for word in words]
    print(f"\n$ edge-stscq {' '.join(arguments)}", file=out, flush=True)
    code = subprocess.run([*PROGRAM, *arguments], env=ENVIRONMENT, check=False, stdout=out).returncode
    if code:
        typer.echo(f"error: `edge-stscq {arguments[0]}` ended with exit code {code}; the demo stops here", err=True)
        raise typer.Exit(code if code > 0 else 1)


@contextmanager
def _server(model: Path, out: Any) -> "Iterator[tuple[str, subprocess.Popen[str]]]":
    """A server on a free port of this machine, with a store of its own that goes away with it; its address."""
    with TemporaryDirectory() as folder:
        arguments = ["serve", "--model", str(model), "--port", "0", "--store", os.path.join(folder, "faces.db")]
        print(f"\n$ edge-stscq {' '.join(arguments)} &", file=out, flush=True)
        process = subprocess.Popen([*PROGRAM, *arguments], env=ENVIRONMENT, stdout=subprocess.PIPE, text=True)
        try:
            yield _address(process, out), process
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            if process.stdout is not None:
                process.stdout.close()


def _address(process: "subprocess.Popen[str]", out: Any) -> str:
    """Wait until the server says where it listens and answers there."""
    import httpx2

    from edge_stscq.errors import EdgeError

    assert process.stdout is not None
    deadline = time.monotonic() + START_SECONDS
    said, _, _ = select.select([process.stdout], [], [], START_SECONDS)
    line = process.stdout.readline().strip() if said else ""
    print(line, file=out, flush=True)
    url = next((word for word in line.split() if word.startswith("http://")), None)
    while url is not None and process.poll() is None and time.monotonic() < deadline:
        try:
            if httpx2.get(f"{url}/ready").is_success:
                return url
        except httpx2.TransportError:
            pass
        time.sleep(0.1)
    raise EdgeError(f"the server did not start within {START_SECONDS} seconds; try: edge-stscq serve --model MODEL")


def _tiles(url: str, target: str, number: int, name: str, bundle: Path, output: Path) -> "Sequence[Tile]":
    """A portrait's crop, its smallest JPEG and WebP, and what the server decodes from its first layers."""
    import httpx2

    from edge_stscq._files import write_file
    from edge_stscq._images import Tile, read_image
    from edge_stscq._local_servers import local_token
    from edge_stscq.bundle import open_bundle
    from edge_stscq.errors import EdgeError

    opened = open_bundle(bundle)
    ends = opened.config.layer_ends
    (output / "faces").mkdir(exist_ok=True)
    frame, bearer = _frames(output, target)[number], {"Authorization": f"Bearer {local_token(url)}"}
    face = opened.frames.face(frame)
    crop = read_image(output / "crops" / f"{number:06d}.png")
    tiles = [Tile(crop, f"{crop.size:,} bytes of pixels"), *(_smallest(crop, kind) for kind in SMALLEST)]
    for layers in range(1, face.layers + 1):
        answer = httpx2.get(f"{url}/v1/faces/{frame.name}.png", params={"layers": layers}, headers=bearer)
        if not answer.is_success:
            raise EdgeError(f"the server does not give back face {frame.name}: {answer.text}")
        path = output / "faces" / f"{name}-{layers}.png"
        write_file(path, answer.content)
        payload = len(opened.frames.payload(face.truncate(layers, ends)))
        tiles.append(Tile(read_image(path), count(payload, "byte")))
    return tiles


def _smallest(crop: "NDArray[np.uint8]", kind: str) -> "Tile":
    """The smallest file of a format of a crop, uint8 `[128, 128, 3]`, as it looks, and its bytes."""
    from PIL import Image

    from edge_stscq._images import Tile, decode_image

    data = io.BytesIO()
    Image.fromarray(crop).save(data, kind, **SMALLEST[kind])
    image = decode_image(data.getvalue())
    assert image is not None
    return Tile(image, count(len(data.getvalue()), "byte"))


def _say_what_is_equal(bundles: dict[str, Path], output: Path, out: Any) -> None:
    """Print how many payloads of each further target equal those of the first."""
    first, *further = ((name, _frames(output, name)) for name in bundles)
    for name, frames in further:
        same = sum(one.payload == other.payload for one, other in zip(first[1], frames, strict=True))
        print(f"{name} gave {same} of {count(len(frames), 'face')} as {first[0]} did, to the byte.", file=out)


def _frames(output: Path, target: str) -> "list[WireFrame]":
    """Frames of the file that a target's bundle captured."""
    from edge_stscq.stream.wire import read_frames

    return [frame for _, frame in read_frames((output / f"{target}.stsq").read_bytes())]

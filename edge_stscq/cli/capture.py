"""`edge-stscq capture`: from a camera, a video or pictures to a stream file, a spool or a server."""

import json
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from rich.table import Table

    from demo_camera.loop import CaptureLoop


def capture(
    source: Annotated[str, typer.Option(help="Camera number (0), or path of a video, a picture or a folder of them.")],
    bundle: Annotated[Path, typer.Option(help="Folder made by `export`: onnx or executorch.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Stream file, written when the capture ends.")
    ] = None,
    send: Annotated[str | None, typer.Option(metavar="URL", help="Server that gets the frames as they come.")] = None,
    spool: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Keep the frames here until `spool drain` has sent them.")
    ] = None,
    spool_size: Annotated[
        str | None, typer.Option(metavar="SIZE", help="Bound of the spool, e.g. 64MiB; the oldest faces make room.")
    ] = None,
    device: Annotated[str, typer.Option(help="Name of this device at the server.")] = "device",
    start_sequence: Annotated[int, typer.Option(min=0, help="Number of the first face at the server.")] = 0,
    token: Annotated[
        str | None, typer.Option(envvar="EDGE_STSCQ_TOKEN", help="Bearer token, if the server asks for one.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Stop after this many faces.")] = None,
    layers: Annotated[
        int | None, typer.Option(min=1, max=15, help="Layers of each face that travel. Otherwise all.")
    ] = None,
    save_crops: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Also keep each aligned face: DIR/000000.png, ...")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the counters as one JSON object at the end.")] = False,
) -> None:
    """Find the largest face of each picture, align it, encode it and keep or send its frame. Ctrl-C ends a camera."""
    from rich.console import Console
    from rich.live import Live

    from demo_camera.align import check
    from demo_camera.detect import Detector
    from demo_camera.loop import CaptureLoop
    from demo_camera.outlet import Outlet
    from demo_camera.source import open_source
    from edge_stscq.client.budget import parse_size
    from edge_stscq.client.sender import Sender
    from edge_stscq.client.spool import Spool
    from edge_stscq.device import load_encoder, open_bundle
    from edge_stscq.errors import EdgeError

    pictures = open_source(source)
    if output is None and send is None and spool is None and save_crops is None:
        raise EdgeError("nothing would be kept; give -o FILE, --spool FILE, --send URL or --save-crops DIR")
    if spool is not None and send is not None:
        raise EdgeError("--spool and --send would number faces twice; give one, and run `spool drain` beside a spool")
    room = None if spool_size is None else parse_size(spool_size)
    opened = open_bundle(bundle)
    check(opened.manifest.crop)
    travel = len(opened.config.layers) if layers is None else opened.config.check_layers(layers)
    loop = CaptureLoop(Detector(), load_encoder(opened), opened.frames, layers=travel)
    console = Console(stderr=True)
    with ExitStack() as stack:
        sender = stack.enter_context(Sender(send, device, token=token)) if send is not None else None
        outlet = Outlet(opened.frames.header(), output, sender, start_sequence)
        kept = None
        if spool is not None:
            kept = stack.enter_context(Spool(spool, device, start=start_sequence, max_bytes=room))
        live = None
        if console.is_terminal and not as_json:
            live = stack.enter_context(Live(_table(loop), console=console, refresh_per_second=8))
        with suppress(KeyboardInterrupt):
            for shot in loop.run(pictures):
                if shot is not None:
                    outlet.put(shot.frame)
                    if kept is not None:
                        first = [opened.frames.cut_frame(shot.frame, 1)] if travel > 1 else []
                        kept.put(opened.frames.model_id, [*first, shot.frame], time.time())
                    if save_crops is not None:
                        _save(save_crops / f"{loop.counters.faces - 1:06d}.png", shot.crop)
                if live is not None:
                    live.update(_table(loop))
                if loop.counters.faces == limit:
                    break
        if loop.counters.faces == 0:
            raise EdgeError(f"stopped before a face was captured ({loop.latest or 'no picture came'})")
        outlet.close()
    counters = loop.counters
    if as_json:
        report = {
            "source": source, "bundle": str(bundle), "model_id": opened.manifest.model_id,
            "pictures": counters.pictures, "faces": counters.faces, "refused": dict(counters.refused),
            "payload_bytes": counters.payload_bytes, "wire_bytes": counters.wire_bytes,
            "output": None if output is None else str(output), "acknowledged": outlet.acknowledged,
            "spool": None if spool is None else str(spool),
        }  # fmt: skip
        typer.echo(json.dumps(report))
    elif live is None:
        Console().print(_table(loop))
    if spool is not None and not as_json:
        typer.echo(f"{spool}: send them with: edge-stscq spool drain {spool} --url URL")
    if output is not None and not as_json:
        typer.echo(f"{output}: look at it with: edge-stscq decode {output} --model MODEL -o faces")


def _table(loop: "CaptureLoop") -> "Table":
    from rich.markup import escape
    from rich.table import Table

    counters = loop.counters
    table = Table("pictures", "faces", "refused", "payload bytes", "wire bytes", caption=escape(loop.latest))
    refused = "\n".join(f"{count} {reason}" for reason, count in counters.refused.most_common())
    per_face = f"\n{counters.payload_bytes / counters.faces:.1f} a face" if counters.faces else ""
    on_wire = f"\n{counters.wire_bytes / counters.faces:.1f} a face" if counters.faces else ""
    table.add_row(
        str(counters.pictures), str(counters.faces), refused or "0",
        f"{counters.payload_bytes:,}{per_face}", f"{counters.wire_bytes:,}{on_wire}",
    )  # fmt: skip
    return table


def _save(path: Path, crop: "NDArray[np.uint8]") -> None:
    from demo_camera.sheet import png
    from edge_stscq.errors import EdgeError
    from edge_stscq.stream.files import write_file

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EdgeError(f"cannot make {path.parent}: {error.strerror}; choose another folder") from None
    write_file(path, png(crop))

"""`edge-stscq capture`: from a camera, a video or pictures to a stream file, a spool or a server."""

import json
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edge_stscq.cli.options import BUNDLE, BundleOption, Ca, Cert, Key, Token, TokenFile, TrustedKey, connection
from edge_stscq.cli.ui import note, progress_console

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from rich.table import Table

    from demo_camera.loop import CaptureLoop


def capture(
    source: Annotated[str, typer.Option(help="Camera number (0), or path of a video, a picture or a folder of them.")],
    bundle: BundleOption = BUNDLE,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Stream file, written when the capture ends.")
    ] = None,
    url: Annotated[str | None, typer.Option(help="Address of a server that gets the frames as they come.")] = None,
    spool: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Keep the frames here until `spool drain` has sent them.")
    ] = None,
    spool_size: Annotated[
        str | None, typer.Option(metavar="SIZE", help="Bound of the spool, e.g. 64MiB; the oldest faces make room.")
    ] = None,
    device: Annotated[str, typer.Option(help="Name of this device at the server.")] = "device",
    start_sequence: Annotated[int | None, typer.Option(min=0, hidden=True)] = None,
    token: Token = None,
    token_file: TokenFile = None,
    cert: Cert = None,
    key: Key = None,
    ca: Ca = None,
    trusted_key: TrustedKey = None,
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

    from demo_camera.loop import CaptureLoop
    from demo_camera.sinks import FrameSink
    from demo_camera.sources import open_source
    from edge_stscq.bundle import open_bundle
    from edge_stscq.client.byte_budget import parse_size
    from edge_stscq.client.sender import Sender
    from edge_stscq.client.spool import Spool
    from edge_stscq.device import load_encoder
    from edge_stscq.device.crop import check
    from edge_stscq.device.detect import Detector
    from edge_stscq.errors import EdgeError

    pictures = open_source(source)
    if output is None and url is None and spool is None and save_crops is None:
        raise EdgeError("nothing would be kept; give -o FILE, --spool FILE, --url URL or --save-crops DIR")
    if spool is not None and url is not None:
        raise EdgeError("--spool and --url would send faces twice; give one, and run `spool drain` beside a spool")
    if start_sequence is not None:
        note("--start-sequence is not needed any more: each capture is a stream of its own")
    room = None if spool_size is None else parse_size(spool_size)
    bearer, tls = connection(token, token_file, cert, key, ca)
    opened = open_bundle(bundle, trusted_key)
    if not opened.signed:
        note(f"{bundle} is not signed; --trusted-key FILE asks for a signature")
    check(opened.manifest.crop)
    travel = len(opened.config.layers) if layers is None else opened.config.check_layers(layers)
    loop = CaptureLoop(Detector(), load_encoder(opened), opened.frames, layers=travel, base=spool is not None)
    console = progress_console()
    with ExitStack() as stack:
        sender = stack.enter_context(Sender(url, device, token=bearer, tls=tls)) if url is not None else None
        sink = FrameSink(device, output, sender)
        kept = None
        if spool is not None:
            kept = stack.enter_context(Spool(spool, device, max_bytes=room))
        live = None
        if console.is_terminal and not console.quiet and not as_json:
            live = stack.enter_context(Live(_table(loop), console=console, refresh_per_second=8))
        with suppress(KeyboardInterrupt):
            for captured in loop.run(pictures):
                if captured is not None:
                    sink.put(captured.coded)
                    if kept is not None:
                        kept.put(captured.coded)
                    if save_crops is not None:
                        _save(save_crops / f"{loop.counters.faces - 1:06d}.png", captured.crop)
                if live is not None:
                    live.update(_table(loop))
                if loop.counters.faces == limit:
                    break
        if loop.counters.faces == 0:
            raise EdgeError(f"stopped before a face was captured ({loop.latest or 'no picture came'})")
        sink.close()
    counters = loop.counters
    if as_json:
        report = {
            "source": source, "bundle": str(bundle), "model_id": opened.manifest.model_id,
            "pictures": counters.pictures, "faces": counters.faces, "refused": dict(counters.rejected),
            "payload_bytes": counters.payload_bytes, "wire_bytes": counters.wire_bytes,
            "output": None if output is None else str(output), "acknowledged": sink.acknowledged,
            "spool": None if spool is None else str(spool),
        }  # fmt: skip
        typer.echo(json.dumps(report))
    elif live is None:
        Console().print(_table(loop))
    if spool is not None and not as_json:
        typer.echo(f"{spool}: send them with: edge-stscq spool drain {spool} --url URL")
    if output is not None and not as_json:
        typer.echo(f"{output}: look at it with: edge-stscq decode {output} --model {opened.manifest.name} -o faces")


def _table(loop: "CaptureLoop") -> "Table":
    from rich.markup import escape
    from rich.table import Table

    counters = loop.counters
    table = Table("pictures", "faces", "refused", "payload bytes", "wire bytes", caption=escape(loop.latest))
    rejected = "\n".join(f"{count} {reason}" for reason, count in counters.rejected.most_common())
    per_face = f"\n{counters.payload_bytes / counters.faces:.1f} a face" if counters.faces else ""
    on_wire = f"\n{counters.wire_bytes / counters.faces:.1f} a face" if counters.faces else ""
    table.add_row(
        str(counters.pictures), str(counters.faces), rejected or "0",
        f"{counters.payload_bytes:,}{per_face}", f"{counters.wire_bytes:,}{on_wire}",
    )  # fmt: skip
    return table


def _save(path: Path, crop: "NDArray[np.uint8]") -> None:
    from edge_stscq._files import make_folder, write_file
    from edge_stscq._images import encode_image

    make_folder(path.parent, "--save-crops")
    write_file(path, encode_image(crop))

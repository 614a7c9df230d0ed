"""`edge-stscq capture`: from a camera, a video or pictures to a stream file, a spool or a server."""

import json
from contextlib import ExitStack, suppress
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edge_stscq.cli.options import BUNDLE, FOLDER, Ca, Cert, Key, Token, TokenFile, TrustedKey, connection, folder
from edge_stscq.cli.spool import Seal, spool_secret
from edge_stscq.cli.ui import note, progress_console

if TYPE_CHECKING:
    from collections.abc import Sequence

    from demo_camera.outlets import Outlet
    from demo_camera.results import Step
    from edge_stscq.privacy import Protector


def capture(
    source: Annotated[
        str,
        typer.Option(
            help="Camera number (0) or device, address (rtsp://, http://), video, picture, folder, or - for standard "
            "input."
        ),
    ],
    bundle: Annotated[
        Path, typer.Option(metavar=FOLDER, help="Bundle folder, or the name of a released bundle.")
    ] = BUNDLE,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Stream file, there when the capture ends.")
    ] = None,
    url: Annotated[str | None, typer.Option(help="Address of a server that gets the frames as they come.")] = None,
    spool: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Keep the frames here until `spool drain` has sent them.")
    ] = None,
    seal: Seal = None,
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
    protected: Annotated[
        bool, typer.Option("--protected", help="Keep a protected template of each face, and no token.")
    ] = False,
    secret: Annotated[
        str | None,
        typer.Option(metavar="SOURCE", help="Secret of the templates' keys: file:PATH, command:... or keyring:..."),
    ] = None,
    keys: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Key store of the templates; made if it is not there.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Stop after this many faces.")] = None,
    layers: Annotated[
        int | None, typer.Option(min=1, max=15, help="Layers of each face that travel. Otherwise all.")
    ] = None,
    faces: Annotated[
        int | None, typer.Option(min=1, help="Most faces of one picture, those of highest quality. Otherwise all.")
    ] = None,
    best_after: Annotated[
        float, typer.Option(metavar="SECONDS", help="Send the best face of a visit that goes on after this time.")
    ] = 10.0,
    margin: Annotated[
        float, typer.Option(help="Points of quality by which a later face must be better to be sent as well.")
    ] = 15.0,
    every: Annotated[
        int, typer.Option(min=1, help="Look for faces in every n-th picture while all visits are steady.")
    ] = 1,
    limits: Annotated[Path | None, typer.Option(metavar="FILE", help="TOML file of what a face must reach.")] = None,
    set_limit: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="NAME=VALUE", help="One limit, e.g. sharpness=50 or head_pose_yaw=off; may be repeated."
        ),
    ] = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="Judge the faces, show every measure with its limit, keep nothing.")
    ] = False,
    rotate: Annotated[
        int, typer.Option(metavar="DEGREES", help="Turn pictures clockwise by 90, 180 or 270: a camera on its side.")
    ] = 0,
    region: Annotated[
        str | None, typer.Option(metavar="X,Y,W,H", help="Look at this part alone, in pixels or percent.")
    ] = None,
    max_rate: Annotated[
        float | None, typer.Option(metavar="N", help="Most pictures a second of a camera or film.")
    ] = None,
    follow: Annotated[bool, typer.Option("--follow", help="Go on with pictures that come into the folder.")] = False,
    recursive: Annotated[bool, typer.Option("--recursive", help="Read the folders in the folder, too.")] = False,
    timeout: Annotated[
        float, typer.Option(metavar="SECONDS", help="Longest wait for a camera to open and for its next picture.")
    ] = 10.0,
    threads: Annotated[int, typer.Option(min=1, help="Threads of detector and encoder.")] = 1,
    save_crops: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Also keep each aligned face: DIR/000000.png, ...")
    ] = None,
    save_refused: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Also keep refused faces: DIR/000000-too-blurred.png, ...")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the counters as one JSON object at the end.")] = False,
) -> None:
    """Find the faces of each picture, keep the best one of each visit, encode it and keep or send its frame.

    Ctrl-C or SIGTERM ends a camera: what was captured is kept, exit code 0. Of a source that ends by itself something
    is missing then: 130 or 143. SIGHUP is 129.
    """
    import cv2
    from rich.live import Live

    from demo_camera.best_shot import SendRule
    from demo_camera.keeper import Keeper, KeptSpool
    from demo_camera.loop import CaptureLoop
    from demo_camera.outlets import CropFolder, record
    from demo_camera.sinks import FrameSink
    from demo_camera.sources import Region, SourceOptions, open_source
    from demo_camera.stopping import StopSignals
    from edge_stscq.bundle import open_bundle
    from edge_stscq.cli.capture_view import STDOUT, Notes, counters_table, explain_faces, show_end
    from edge_stscq.client.byte_budget import parse_size
    from edge_stscq.client.sender import Sender
    from edge_stscq.client.spool import Spool
    from edge_stscq.client.spool_file import SpoolUnavailableError
    from edge_stscq.device import Matcher, load_encoder
    from edge_stscq.device.crop import check
    from edge_stscq.device.detect import Detector
    from edge_stscq.device.quality import Limits, QualityGate
    from edge_stscq.errors import EdgeError
    from edge_stscq.events.notices import Notices

    part = None if region is None else Region.parse(region)
    pictures = open_source(source, SourceOptions(rotate, part, max_rate, follow, recursive, timeout), Notes())
    wanted = (Limits() if limits is None else Limits.load(limits)).changed(*set_limit or ())
    cv2.setNumThreads(threads)
    detector = Detector()
    gate = QualityGate(detector, wanted)
    places = (output, url, spool, save_crops)
    if explain:
        if any(place is not None for place in (*places, save_refused)):
            raise EdgeError("--explain keeps nothing; leave out -o, --spool, --url, --save-crops and --save-refused")
        explain_faces(pictures, detector, gate, limit, as_json)
        return
    if all(place is None for place in places):
        raise EdgeError("nothing would be kept; give -o FILE, --spool FILE, --url URL or --save-crops DIR")
    if spool is not None and url is not None:
        raise EdgeError("--spool and --url would send faces twice; give one, and run `spool drain` beside a spool")
    protector = _protector(device, secret, keys, (save_crops, save_refused)) if protected else None
    if protector is None and (secret is not None or keys is not None):
        raise EdgeError("--secret and --keys are for protected templates; give --protected, too")
    if start_sequence is not None:
        note("--start-sequence is not needed any more: each capture is a stream of its own")
    rule = SendRule(best_after, margin)
    room = None if spool_size is None else parse_size(spool_size)
    bearer, tls = connection(token, token_file, cert, key, ca)
    opened = open_bundle(folder(bundle), trusted_key)
    if not opened.signed:
        note(f"{bundle} is not signed; --trusted-key FILE asks for a signature")
    check(opened.manifest.crop)
    travel = len(opened.config.layers) if layers is None else opened.config.check_layers(layers)
    loop = CaptureLoop(
        detector, load_encoder(opened, threads), opened.frames, gate,
        Matcher.of(opened) if opened.manifest.matches else None,
        layers=travel, base=spool is not None, rule=rule, most_faces=faces, limit=limit, every=every,
        protector=protector,
    )  # fmt: skip
    outlets: list[Outlet] = []
    keeper, live, failure = None, None, None
    with ExitStack() as stack:
        signals = stack.enter_context(StopSignals(pictures.close))
        if save_crops is not None:
            outlets.append(CropFolder(save_crops, "--save-crops"))
        if save_refused is not None:
            refused = CropFolder(save_refused, "--save-refused")
            loop.on_refused = lambda name, judgement: refused.put_refused(judgement)
        if spool is not None:
            hidden = spool_secret(seal)
            with Spool(spool, device, max_bytes=room, secret=hidden) as waiting:
                loop.numbers = count(waiting.status().next)  # at least one face of each visit so far is in this stream
            said = Notices(lambda kind, place, text: note(f"{place}: {text}"))
            keeper = Keeper(spool, device, None, said, secret=hidden, again=SpoolUnavailableError)
            keeper.start()
            outlets.append(KeptSpool(keeper, pictures.live, lambda: signals.asked is not None))
        sender = None if url is None else stack.enter_context(Sender(url, device, token=bearer, tls=tls))
        sink = FrameSink(device, output, sender, prompt=follow)
        outlets.append(sink)
        console = progress_console()
        if console.is_terminal and not console.quiet and not as_json:
            live = stack.enter_context(Live(counters_table(loop, pictures), console=console, refresh_per_second=8))

        def watch(step: "Step | None" = None) -> None:
            if live is not None:
                live.update(counters_table(loop, pictures))

        try:
            record(loop, pictures, outlets, watch)
        except EdgeError as error:
            failure = error
        watch()
        if protector is not None and spool is None and url is None:
            try:
                protector.withdraw(sink.written)
            except EdgeError as error:
                failure = failure or error
    ended = "error" if failure else signals.asked.name if signals.asked else "limit" if loop.full else "source"
    report = {
        "source": pictures.name, "bundle": str(opened.folder), "model_id": opened.manifest.model_id, "ended": ended,
        **loop.counters.by_name(), "repeated": 0 if keeper is None else keeper.repeated,
        "lost": 0 if keeper is None else keeper.lost,
        **{name: value for name, value in pictures.counters.by_name().items() if name != "pictures"},
        "output": str(output) if sink.written else None, "acknowledged": sink.acknowledged,
        "spool": None if spool is None else str(spool),
    }  # fmt: skip
    if failure is None or loop.counters.pictures:
        with suppress(OSError):  # nobody may listen any more, after a SIGHUP
            if as_json:
                typer.echo(json.dumps(report), err=str(output) in STDOUT)
            else:
                show_end(None if live else counters_table(loop, pictures), report, opened.manifest.name, output)
    if failure is not None:
        raise failure
    if code := signals.exit_code(pictures.live):
        raise typer.Exit(code)


def _protector(
    device: str, secret: str | None, keys: Path | None, pictures: "Sequence[Path | None]"
) -> "Protector":
    """The maker of templates; nothing is written if a picture would be, too."""
    from edge_stscq.errors import EdgeError
    from edge_stscq.privacy import KeyStore, Protector, read_secret, scheme_named

    if secret is None or keys is None:
        raise EdgeError(
            "--protected needs --secret SOURCE and --keys FILE, from which each template has a key of its own"
        )
    if any(folder is not None for folder in pictures):
        raise EdgeError("--protected keeps templates and no picture; leave out --save-crops and --save-refused")
    found = read_secret(secret)
    return Protector(
        scheme_named("rotated"), KeyStore(keys, found) if keys.exists() else KeyStore.create(keys, found), device
    )

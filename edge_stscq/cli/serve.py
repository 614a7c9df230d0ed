"""`edge-stscq serve`: the decode service, in one process or on Ray Serve."""

import contextlib
import json
import os
import signal
import socket
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Literal

import typer

from edge_stscq.cli.options import FOLDER, MODEL, folder


def serve(
    context: typer.Context,
    config: Annotated[
        Path | None,
        typer.Option(
            help="Settings as TOML, e.g. port = 8377; variables EDGE_STSCQ_PORT, ... and options override it."
        ),
    ] = None,
    model: Annotated[
        list[Path] | None,
        typer.Option(
            parser=folder,
            metavar=FOLDER,
            help=f"Model folder, or name, whose frames are accepted; repeat for more. {MODEL} if none is given.",
        ),
    ] = None,
    bundle: Annotated[
        Path | None,
        typer.Option(
            parser=folder,
            metavar=FOLDER,
            help="Bundle of a model, to search by uploaded pictures; it codes them in a confined process.",
        ),
    ] = None,
    store: Annotated[
        str,
        typer.Option(
            envvar="EDGE_STSCQ_STORE",
            help="Where the faces are: a SQLite file, made if absent, or postgresql+psycopg://USER@HOST/DATABASE.",
        ),
    ] = "faces.db",
    seal: Annotated[
        str | None,
        typer.Option(
            envvar="EDGE_STSCQ_SEAL", metavar="SOURCE",
            help="Of a sealed store: its secret, as file:PATH, command:PROGRAM or keyring:SERVICE/USER.",
        ),
    ] = None,
    seal_keys: Annotated[
        Path | None,
        typer.Option(
            envvar="EDGE_STSCQ_SEAL_KEYS", help="Of a sealed store: its key file; otherwise keys.db beside it."
        ),
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen on; a public one needs a token.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free port.")] = 8377,
    device: Annotated[Literal["cpu", "cuda"], typer.Option("--accelerator", help="cuda decodes in bfloat16.")] = "cpu",
    decoder_user: Annotated[
        str | None, typer.Option(metavar="USER", help="Started as root: whose rights the decoder has.")
    ] = None,
    deadline: Annotated[float, typer.Option(min=0.01, help="Seconds a face may wait for the decoder; then 503.")] = 2,
    cache_bytes: Annotated[int, typer.Option(min=0, help="Decoded faces kept in memory; 0 keeps none.")] = 64 << 20,
    tokens: Annotated[
        Path | None, typer.Option(help="Tokens, made by `token create`; otherwise tokens.db beside the store.")
    ] = None,
    trusted_proxies: Annotated[
        list[str] | None,
        typer.Option(
            "--trusted-proxy", metavar="ADDRESS",
            help="Proxy, or network of proxies, whose X-Forwarded-For and -Proto are believed; repeat for more.",
        ),
    ] = None,
    retain: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PERIOD", help="Erase faces that are older: 30d, or NAME=48h for one device; repeat for more."
        ),
    ] = None,
    persons: Annotated[
        bool, typer.Option("--persons", help="Group faces into visits and persons: /v1/visits, /v1/persons, person.")
    ] = False,
    watch_list: Annotated[
        bool, typer.Option("--watch-list", help="Keep only faces of enrolled people, or of who may be; count others.")
    ] = False,
    webhook: Annotated[
        str | None, typer.Option(metavar="URL", help="Tell this address of visits, and who of the watch list is seen.")
    ] = None,
    webhook_secret: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Secret that signs what the webhook gets.")
    ] = None,
    mqtt: Annotated[
        str | None,
        typer.Option(metavar="URL", help="Tell this broker, too: mqtts://USER@HOST:PORT/PREFIX, or mqtt://."),
    ] = None,
    mqtt_password: Annotated[Path | None, typer.Option(metavar="FILE", help="Password at the broker.")] = None,
    mqtt_ca: Annotated[
        Path | None, typer.Option(metavar="FILE", help="PEM authorities of the broker; otherwise this machine's.")
    ] = None,
    requests_per_minute: Annotated[float, typer.Option(min=1, help="Requests of one device.")] = 1200,
    bytes_per_minute: Annotated[float, typer.Option(min=1, help="Bytes that one device may send.")] = 8 << 20,
    tls_cert: Annotated[Path | None, typer.Option(help="PEM certificate, and those up to its authority.")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="PEM key of the certificate, without a password.")] = None,
    tls_client_ca: Annotated[
        Path | None, typer.Option(help="Mutual TLS: authorities of which clients must show a certificate.")
    ] = None,
    audit: Annotated[
        Path | None, typer.Option(help="Who did what, in JSON lines; otherwise audit.jsonl beside the store.")
    ] = None,
    engine: Annotated[
        Literal["process", "ray"], typer.Option(help="One process, or replicas on Ray Serve (docs/scale.md).")
    ] = "process",
    ray_address: Annotated[
        str | None, typer.Option(help="Ray: the cluster to join; otherwise one is started on this machine.")
    ] = None,
    ingress_replicas: Annotated[int, typer.Option(min=1, help="Ray: processes that answer requests.")] = 1,
    replicas: Annotated[str, typer.Option(help="Ray: decoders, a number or MIN:MAX.")] = "1",
    gpus_per_replica: Annotated[float, typer.Option(min=0, help="Ray: GPUs of a decoder, e.g. 0.5.")] = 0,
    as_json: Annotated[
        bool, typer.Option("--json", help="Once it answers, print where and what it serves as one JSON object.")
    ] = False,
) -> None:
    """Accept frames, store them and answer with faces.

    The first start makes a token for this machine, which its other commands find by themselves.
    """
    from edge_stscq.errors import EdgeError, require

    require("uvicorn", "server")
    require("fastapi", "server")
    require("sqlalchemy", "server")
    require("pydantic_settings", "server")
    from edge_stscq._local_servers import is_loopback, noted_server
    from edge_stscq._tls import server_arguments
    from edge_stscq.server.announcement import Announcement, server_url
    from edge_stscq.server.auth.audit_log import audit_log
    from edge_stscq.server.auth.guard import open_tokens, tokens_path
    from edge_stscq.server.auth.local_token import local_server_token
    from edge_stscq.server.settings import ServerSettings, load_settings
    from edge_stscq.server.storage.database import sibling_path, sqlite_path, store_url

    given = {name: value for name, value in context.params.items() if _is_given(context, name)}
    if "model" not in given and config is None and "EDGE_STSCQ_MODEL" not in os.environ:
        given["model"] = (folder(MODEL),)
    settings = load_settings(config, **{name: given[name] for name in given.keys() & ServerSettings.model_fields})
    tls = server_arguments(tls_cert, tls_key, tls_client_ca)
    log = audit or sibling_path(settings.store, "audit.jsonl")
    with contextlib.closing(open_tokens(settings)) as store_of_tokens, audit_log(log):
        local = local_server_token(store_of_tokens) if is_loopback(settings.host) else None
    token_file = None if local is None else local.file
    if not tls and not is_loopback(settings.host):
        typer.echo(
            f"warning: faces and tokens reach {settings.host} in the clear; give --tls-cert and --tls-key", err=True
        )

    def announce(what: Announcement) -> None:
        if local is not None:
            what = replace(what, token=local.text, token_file=str(local.file.absolute()))
        typer.echo(json.dumps(asdict(what)) if as_json else f"{what}\n{what.page(sys.stdout.isatty())}")

    if engine == "ray":
        if settings.bundle is not None:
            raise EdgeError("pictures are coded by servers of one process; leave --bundle out, or --engine ray")
        from edge_stscq.server.ray.deploy import RayOptions, parse_replicas, run

        least, most = parse_replicas(replicas)
        options = RayOptions(ray_address, ingress_replicas, least, most, gpus_per_replica)
        with contextlib.closing(bound(settings.host, settings.port)) as listener:
            settings = settings.model_copy(update={"port": listener.getsockname()[1]})
        with noted_server(settings.port, token_file):
            run(settings, options, log, tls, announce)
        return
    from edge_stscq.server.decoding.confinement import refuse_readable
    from edge_stscq.server.decoding.local import batching_backend
    from edge_stscq.server.decoding.worker import DecoderProcess
    from edge_stscq.server.front.server import BACKLOG, FrontServer
    from edge_stscq.server.pictures.encoder import PictureEncoder
    from edge_stscq.server.pictures.process import EncoderProcess

    signal.signal(signal.SIGTERM, signal.default_int_handler)  # what must be tidied up is, whichever signal ends it
    decoding = settings.model, settings.device, settings.max_batch
    files: tuple[Path | None, ...] = (
        log, tokens_path(settings), sqlite_path(store_url(settings.store)), settings.webhook_secret,
        settings.mqtt_password,
    )  # fmt: skip
    if settings.seal is not None:
        from edge_stscq.server.sealing.face_seal import key_path

        files = *files, key_path(settings.seal_keys, settings.store), *_secret_file(settings.seal)
    places = settings.model if settings.bundle is None else (*settings.model, settings.bundle)
    refuse_readable([file for file in files if file is not None], places)
    with (
        contextlib.closing(bound(settings.host, settings.port)) as listener,
        noted_server(listener.getsockname()[1], token_file),
        contextlib.closing(DecoderProcess(*decoding, settings.decoder_user)) as decoder,
        contextlib.ExitStack() as opened,
        audit_log(log),
    ):
        coder = None
        if settings.bundle is not None:
            coder = opened.enter_context(contextlib.closing(EncoderProcess(settings.bundle, settings.decoder_user)))
        listener.listen(BACKLOG)  # not before the note: who is connected finds the token
        from edge_stscq.server.app import create_app

        app = create_app(
            settings, batching_backend(settings, decoder.decode, decoder.unavailable),
            confinement=lambda: decoder.confinement, pictures=None if coder is None else PictureEncoder(coder.encode),
        )  # fmt: skip
        if coder is not None:
            app.state.catalog.find(coder.model_id, str(settings.bundle))
            coder.wait_until_ready()
        decoder.wait_until_ready()
        url, state = server_url(settings, listener.getsockname()[1], bool(tls)), app.state
        announce(Announcement(url, state.catalog.names, settings.device, state.store.name))
        server = FrontServer(app, proxies=settings.trusted_proxies, tls=tls)
        with contextlib.suppress(KeyboardInterrupt):
            server.run(sockets=[listener])


def _secret_file(source: str) -> tuple[Path, ...]:
    kind, _, rest = source.partition(":")
    return (Path(rest),) if kind == "file" else ()


def _is_given(context: typer.Context, name: str) -> bool:
    """True if an option stands on the command line or in its variable, not only in the help."""
    source = context.get_parameter_source(name)
    return source is not None and source.name != "DEFAULT"


def bound(host: str, port: int) -> socket.socket:
    """A bound socket, so that a taken port is one clear line and port 0 can be named."""
    from edge_stscq.errors import EdgeError

    bound = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if bound.family == socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        bound.bind((host, port))
        return bound
    except OSError as error:
        bound.close()
        raise EdgeError(f"cannot listen on {host} port {port}: {error.strerror}; choose another --port") from None

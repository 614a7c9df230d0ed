"""`edge-stscq matcher`: the process that holds the keys of protected templates, and what it is asked."""

import contextlib
import json
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from edge_stscq.cli.command import Command, with_verbosity
from edge_stscq.cli.options import BUNDLE, AsJson, BundleOption, Ca, Cert, Key, Token, TokenFile, connection
from edge_stscq.cli.ui import count, note

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from edge_stscq.matcher.client import MatcherClient
    from edge_stscq.privacy import KeyRing

matcher = typer.Typer(help="Match protected templates in a process that holds their keys.", no_args_is_help=True)

Url = Annotated[str, typer.Option(help="Address of the matcher.")]
Record = Annotated[str, typer.Argument(metavar="NAME", help="Name of the record, 1 to 200 characters.")]
Face = Annotated[
    Path, typer.Argument(metavar="FACE", help="A picture, whose largest face is taken, or a stream file of one face.")
]
URL = "http://127.0.0.1:8378"


@matcher.command("serve", cls=Command)
@with_verbosity
def serve(
    server: Annotated[str, typer.Option(help="Address of the server that keeps the templates.")],
    secret: Annotated[
        list[str],
        typer.Option(
            metavar="SOURCE", help="Secret of the keys: file:PATH, command:... or keyring:...; one, or one a key store."
        ),
    ],
    keys: Annotated[
        list[Path],
        typer.Option(
            metavar="FILE", help="Key store; repeat for those of cameras. The first is made if absent: its is enroll."
        ),
    ],
    token_file: TokenFile = None,
    device: Annotated[str, typer.Option(help="By which the server names what is enrolled here.")] = "matcher",
    scheme: Annotated[
        Literal["rotated", "polyprotect", "slerpface"], typer.Option(help="Of the templates; no two compare.")
    ] = "rotated",
    thresholds: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="template-thresholds.json of the model, by which scores are judged."),
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen on; a public one needs a token.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free port.")] = 8378,
    tokens: Annotated[
        Path | None,
        typer.Option(help="Tokens of this matcher, by `token create`; else matcher-tokens.db beside the first --keys."),
    ] = None,
    audit: Annotated[
        Path | None, typer.Option(help="Who did what, in JSON lines; else matcher-audit.jsonl beside the first --keys.")
    ] = None,
    tls_cert: Annotated[Path | None, typer.Option(help="PEM certificate, and those up to its authority.")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="PEM key of the certificate, without a password.")] = None,
    tls_client_ca: Annotated[
        Path | None, typer.Option(help="Mutual TLS: authorities of which clients must show a certificate.")
    ] = None,
    cert: Cert = None,
    key: Key = None,
    ca: Ca = None,
    as_json: AsJson = False,
) -> None:
    """Follow the templates of a server, and match faces with them.

    Run it as a user of its own, best on another host: whoever has its memory has the faces.
    """
    from edge_stscq.errors import require

    require("uvicorn", "server")
    require("fastapi", "server")
    require("sqlalchemy", "server")
    from edge_stscq._local_servers import is_loopback, noted_server
    from edge_stscq._tls import server_arguments
    from edge_stscq.cli.serve import bound
    from edge_stscq.config.template_thresholds import TemplateThresholds
    from edge_stscq.matcher.app import create_app
    from edge_stscq.matcher.template_source import TemplateSource
    from edge_stscq.privacy import TemplateMatcher, scheme_named
    from edge_stscq.server.auth.audit_log import audit_log
    from edge_stscq.server.auth.guard import open_tokens_at
    from edge_stscq.server.auth.local_token import local_server_token
    from edge_stscq.server.front.server import BACKLOG, FrontServer

    signal.signal(signal.SIGTERM, signal.default_int_handler)
    bearer, tls = connection(None, token_file, cert, key, ca)
    serving = server_arguments(tls_cert, tls_key, tls_client_ca)
    found = _secrets(secret, keys)
    judging = None if thresholds is None else TemplateThresholds.load(thresholds)
    if judging is not None:
        judging.limits(scheme)
    if not serving and not is_loopback(host):
        typer.echo(f"warning: faces and tokens reach {host} in the clear; give --tls-cert and --tls-key", err=True)
    log = audit or keys[0].with_name("matcher-audit.jsonl")
    with (
        TemplateSource(server, device, token=bearer, tls=tls) as source,
        contextlib.closing(bound(host, port)) as listener,
        contextlib.closing(open_tokens_at(tokens or keys[0].with_name("matcher-tokens.db"), host)) as opened,
        audit_log(log),
    ):
        held = TemplateMatcher(scheme_named(scheme), _ring(found, keys))
        local = local_server_token(opened, "matcher-local-token") if is_loopback(host) else None
        with noted_server(listener.getsockname()[1], None if local is None else local.file):
            listener.listen(BACKLOG)
            app = create_app(held, source, opened, thresholds=judging)
            name = f"[{host}]" if ":" in host else host
            url = f"{'https' if serving else 'http'}://{name}:{listener.getsockname()[1]}"
            said = {"url": url, "server": source.url, "scheme": scheme, "keys": len(held.ring)}
            line = f"matching {scheme} templates of {source.url} on {url}, {count(len(held.ring), 'key')}"
            typer.echo(json.dumps(said) if as_json else line)
            with contextlib.suppress(KeyboardInterrupt):
                FrontServer(app, tls=serving).run(sockets=[listener])


@matcher.command("enroll", cls=Command)
@with_verbosity
def enroll(
    record: Record, face: Face, url: Url = URL, bundle: BundleOption = BUNDLE, token: Token = None,
    token_file: TokenFile = None, cert: Cert = None, key: Key = None, ca: Ca = None, as_json: AsJson = False,
) -> None:  # fmt: skip
    """Enroll a record: a fresh key at the matcher, a template at the server, and the face nowhere."""
    client = _client(url, token, token_file, cert, key, ca)
    _tell(client.enroll(record, *_embedding(face, bundle)), "enrolled", as_json)


@matcher.command("renew", cls=Command)
@with_verbosity
def renew(
    record: Record, face: Face, url: Url = URL, bundle: BundleOption = BUNDLE, token: Token = None,
    token_file: TokenFile = None, cert: Cert = None, key: Key = None, ca: Ca = None, as_json: AsJson = False,
) -> None:  # fmt: skip
    """Give a record a fresh key and a fresh template; the old one matches no more."""
    client = _client(url, token, token_file, cert, key, ca)
    _tell(client.renew(record, *_embedding(face, bundle)), "renewed", as_json)


@matcher.command("revoke", cls=Command)
@with_verbosity
def revoke(
    record: Record, url: Url = URL, token: Token = None, token_file: TokenFile = None, cert: Cert = None,
    key: Key = None, ca: Ca = None, as_json: AsJson = False,
) -> None:  # fmt: skip
    """Delete a record's key for good, and its template at the server: no copy of it can be matched again."""
    _tell(_client(url, token, token_file, cert, key, ca).revoke(record), "revoked", as_json)


@matcher.command("match", cls=Command)
@with_verbosity
def match(
    face: Face,
    record: Annotated[str | None, typer.Option(metavar="NAME", help="Only with this record: is it the person?")] = None,
    template: Annotated[str | None, typer.Option("--face", metavar="ID", help="Only with this template.")] = None,
    device: Annotated[str | None, typer.Option(help="Only with templates of this device.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=100, help="Most templates, the most alike first.")] = 10,
    url: Url = URL, bundle: BundleOption = BUNDLE, token: Token = None, token_file: TokenFile = None,
    cert: Cert = None, key: Key = None, ca: Ca = None, as_json: AsJson = False,
) -> None:  # fmt: skip
    """Match a face with all templates, or with one record's."""
    client = _client(url, token, token_file, cert, key, ca)
    found = client.match(*_embedding(face, bundle), record=record, face=template, device=device, limit=limit)
    if as_json:
        typer.echo(json.dumps(found))
        return
    from rich.console import Console
    from rich.table import Column, Table

    names = [Column(name, overflow="fold") for name in ("record", "face", "device")]
    table = Table("verdict", "score", *names, "captured", box=None)
    for hit in found["hits"]:
        told = hit["verdict"] or "-"
        table.add_row(told, f"{hit['score']:.3f}", hit["record"], hit["face"], hit["device"], hit["captured"] or "-")
    Console().print(table)
    _judge(found["hits"], found["searched"] if record is None and template is None else 1)
    note(f"{count(found['searched'], 'template')} of scheme {found['scheme']} searched")
    if found["without_key"] or found["refused"]:
        refused = f"{found['refused']} of another scheme or changed"
        note(f"not searched: {found['without_key']} whose key is not here, {refused}")
    if not found["complete"]:
        note("the matcher has not all templates of the server yet, or cannot reach it; see its /ready")


def _judge(hits: list[dict[str, Any]], compared: int) -> None:
    """Say what the best verdict is worth among so many templates."""
    best = hits[0] if hits else None
    if best is not None and best["verdict"] is None:
        note("no verdict: the matcher has no thresholds of this model; start it with --thresholds")
    elif best is not None and best["false_match_rate"] is not None:
        rate = best["false_match_rate"]
        line = f"{best['verdict']}: 1 in {round(1 / rate):,} strangers reaches that score in one comparison"
        note(line if compared == 1 else f"{line}, {rate * compared:,.2g} of {count(compared, 'template')} by chance")


def _secrets(sources: list[str], paths: list[Path]) -> list[bytes]:
    """The secret of each key store; those that are there are opened, so that nothing is written if one cannot be."""
    from edge_stscq.errors import EdgeError
    from edge_stscq.privacy import KeyStore, read_secret

    if len(sources) not in (1, len(paths)):
        raise EdgeError(f"{len(sources)} secrets for {len(paths)} key stores; give one, or one for each --keys")
    found = [read_secret(source) for source in sources]
    found = found * len(paths) if len(sources) == 1 else found
    for number, (path, secret) in enumerate(zip(paths, found, strict=True)):
        if path.exists() or number > 0:
            KeyStore(path, secret)
        elif not path.parent.is_dir():
            raise EdgeError(f"cannot write {path}: its folder does not exist; make it, open to its owner alone")
    return found


def _ring(secrets: list[bytes], paths: list[Path]) -> "KeyRing":
    """The key stores; the first is made if it is not there."""
    from edge_stscq.privacy import KeyRing, KeyStore

    if not paths[0].exists():
        KeyStore.create(paths[0], secrets[0])
    return KeyRing([KeyStore(path, secret) for path, secret in zip(paths, secrets, strict=True)])


def _client(
    url: str, token: str | None, token_file: Path | None, cert: Path | None, key: Path | None, ca: Path | None
) -> "MatcherClient":
    from edge_stscq.matcher.client import MatcherClient

    bearer, tls = connection(token, token_file, cert, key, ca)
    return MatcherClient(url, token=bearer, tls=tls)


def _embedding(face: Path, bundle: Path) -> "tuple[NDArray[np.float32], bytes]":
    """The embedding of a face, and the model that it is of."""
    from edge_stscq.bundle import open_bundle
    from edge_stscq.device import Matcher
    from edge_stscq.errors import EdgeError
    from edge_stscq.stream.frame import read_stream

    opened = open_bundle(bundle)
    if not opened.manifest.matches:
        raise EdgeError(f"{bundle} gives no embeddings; export it anew")
    if face.suffix == ".stsq":
        coded = list(opened.frames.read(read_stream(face)))
        if len(coded) != 1:
            raise EdgeError(f"{face} holds {count(len(coded), 'face')}; one is matched at a time")
    else:
        from edge_stscq.cli.person import code_picture

        found, _, reason = code_picture(face, opened)
        if found is None:
            raise EdgeError(f"{face}: {reason}; take another picture")
        coded = [found]
    return Matcher.of(opened).embed(coded)[0], opened.frames.model_id


def _tell(done: dict[str, Any], what: str, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(done))
        return
    face = "" if done["face"] is None else f", template {done['face']}"
    typer.echo(f"{done['record']} is {what}{face}")
    if done["erased"]:
        note(f"erased from the server: {', '.join(done['erased'])}")
    if done["left"]:
        note(f"still at the server, where nobody can match it: {', '.join(done['left'])}; erase it there")

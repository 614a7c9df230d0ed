"""`edge-stscq matcher`: its commands from a picture to an answer, and its process from start to end."""

import base64
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import Result
from typer.testing import CliRunner

from edge_stscq.bundle import open_bundle
from edge_stscq.cli.matcher import matcher as app
from edge_stscq.device import Matcher
from edge_stscq.errors import EdgeError
from edge_stscq.matcher.app import create_app
from edge_stscq.matcher.template_source import TemplateSource
from edge_stscq.privacy import KeyRing, KeyStore, TemplateMatcher, scheme_named, write_new_secret
from edge_stscq.server.auth.scope import Scope
from edge_stscq.server.auth.tokens import TokenStore
from edge_stscq.stream import CodedFace
from edge_stscq.stream.envelope import STATIC_TABLES, Kind, WireFrame
from tests.matcher.servers import MATCHER_SCOPES, FaceServer, listening, made_up_thresholds, make_token, wait_until
from tests.support.stored_faces import Camera


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def failure(*arguments: object) -> str:
    """The one line of a command that has to fail."""
    done = run(*arguments)
    assert isinstance(done.exception, EdgeError), done.output
    assert "\n" not in str(done.exception)
    return str(done.exception)


@pytest.fixture
def server(integer_model: Path, tmp_path: Path) -> FaceServer:
    folder = tmp_path / "server"
    folder.mkdir()
    return FaceServer(integer_model, folder, make_token(folder / "tokens.db", *MATCHER_SCOPES))


@pytest.fixture
def bundle(integer_bundles: dict[str, Path]) -> Path:
    return integer_bundles["onnx"]


@pytest.fixture
def matching(server: FaceServer, bundle: Path, tmp_path: Path) -> Iterator[tuple[object, ...]]:
    """Options with which a command finds a matcher that runs."""
    keys = KeyStore.create(tmp_path / "matcher.keys", b"s" * 32)
    with server.running() as url, TemplateSource(url, token=server.token) as source:
        held = TemplateMatcher(scheme_named("rotated"), KeyRing([keys]))
        thresholds = made_up_thresholds(open_bundle(bundle).frames.model_id)
        tokens = TokenStore(tmp_path / "matcher-tokens.db", create=True)
        made = create_app(held, source, tokens, thresholds=thresholds)
        with listening(made) as address:
            wait_until(lambda: made.state.follower.complete)
            token = tmp_path / "token"
            token.write_text(make_token(tmp_path / "matcher-tokens.db", *Scope))
            yield "--url", address, "--token-file", token


@pytest.fixture
def stream(bundle: Path, tmp_path: Path) -> Path:
    """A stream file of one face."""
    opened = open_bundle(bundle)
    config, draw = opened.config, np.random.default_rng(1)
    tokens = draw.integers(config.entries, size=config.tokens).astype(np.uint16)
    path = tmp_path / "face.stsq"
    path.write_bytes(opened.frames.write([CodedFace(0, tokens, len(config.layers))]))
    return path


def test_commands_enroll_match_renew_and_revoke(
    matching: tuple[object, ...], bundle: Path, stream: Path, portrait: dict[str, Path]
) -> None:
    face, picture = (stream, "--bundle", bundle), (portrait["grace_hopper"], "--bundle", bundle)
    made = json.loads(run("enroll", "anna", *face, *matching, "--json").stdout)
    assert made["record"] == "anna"
    done = run("enroll", "grace", *picture, *matching)
    assert (done.exit_code, done.stdout.startswith("grace is enrolled, template ")) == (0, True), done.exception
    found = json.loads(run("match", *face, *matching, "--json").stdout)
    assert (found["searched"], found["hits"][0]["record"], found["hits"][0]["face"]) == (2, "anna", made["face"])
    table = run("match", *picture, *matching, "--record", "grace").stdout
    assert re.search(r"(same person|perhaps) +(0\.[6-9]|1\.0)\d\d? +grace", table), table
    told = run("match", *picture, *matching).output
    assert re.search(r"1 in 10?,000 strangers reaches that score in one comparison, 0.00\d+ of 2 templates", told), told
    renewed = json.loads(run("renew", "anna", *face, *matching, "--json").stdout)
    assert (renewed["erased"], renewed["left"]) == ([made["face"]], [])
    assert run("revoke", "anna", *matching).stdout == "anna is revoked\n"
    assert "record 'anna' has no key: it was never enrolled, or it was revoked" in failure(
        "match", *face, *matching, "--record", "anna"
    )
    assert "record 'anna' has no key" in failure("revoke", "anna", *matching)


def test_commands_refuse_what_is_no_one_face(
    matching: tuple[object, ...], bundle: Path, stream: Path, tmp_path: Path
) -> None:
    opened = open_bundle(bundle)
    template = Camera(opened.frames, kind=Kind.PROTECTED, coder_id=STATIC_TABLES)
    protected, two = tmp_path / "protected.stsq", tmp_path / "two.stsq"
    frame = WireFrame(template.source, 0, 1, bytes(64), 1_700_000_000_000)
    protected.write_bytes(template.file(frame))
    two.write_bytes(opened.frames.write([*opened.frames.read(stream.read_bytes())] * 2))
    empty = tmp_path / "wall.png"
    cv2.imwrite(str(empty), np.full((200, 300, 3), 120, np.uint8))
    for path, line in (
        (protected, "it is a protected template, from which no face is drawn without its key"),
        (two, "holds 2 faces; one is matched at a time"), (empty, "no face was found; take another picture"),
        (tmp_path / "nothing.png", "nothing.png"), (tmp_path / "nothing.stsq", "nothing.stsq"),
    ):  # fmt: skip
        assert line in failure("match", path, "--bundle", bundle, *matching)
        assert line in failure("enroll", "anna", path, "--bundle", bundle, *matching)
    assert len(KeyStore(tmp_path / "matcher.keys", b"s" * 32)) == 0


@contextmanager
def serving(*arguments: object) -> Iterator[tuple[str, "subprocess.Popen[str]"]]:
    """First line of `matcher serve`, and its process."""
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "edge_stscq", "matcher", "serve", "--port", "0", *map(str, arguments)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={name: value for name, value in os.environ.items() if not name.startswith("EDGE_STSCQ_")},
    )  # fmt: skip
    try:
        assert process.stdout is not None
        yield process.stdout.readline(), process
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)


def test_process_finds_its_token_and_ends_when_asked(
    server: FaceServer, bundle: Path, stream: Path, tmp_path: Path
) -> None:
    """Beside the files of a server, which it leaves alone."""
    secret, token = tmp_path / "s.secret", tmp_path / "server.token"
    write_new_secret(secret)
    token.write_text(server.token)
    keys = server.folder / "matcher.keys"
    with server.running() as url:
        options = "--server", url, "--token-file", token, "--secret", f"file:{secret}", "--keys", keys, "--json"
        with serving(*options) as (line, process):
            assert line, process.communicate()[1]
            said = json.loads(line)
            assert (said["server"], said["scheme"], said["keys"]) == (url, "rotated", 0)
            done = run("enroll", "anna", stream, "--bundle", bundle, "--url", said["url"])
            assert done.exit_code == 0, done.exception
            opened = open_bundle(bundle)
            unit = Matcher.of(opened).embed(list(opened.frames.read(stream.read_bytes())))[0]
            key = KeyStore(keys, secret.read_bytes().strip()).key("anna")
            held = server.ask("GET", "/v1/templates", Scope.TEMPLATES).json()["templates"]
            template = base64.b64decode(held[0]["template"])
            assert scheme_named("rotated").match(template, unit, key) > 0.7
        assert process.returncode == 0
    made = {path.name for path in server.folder.iterdir()}
    assert {"matcher-local-token", "matcher-tokens.db", "matcher-audit.jsonl"} <= made
    assert "local-token" not in made
    assert (server.folder / "matcher-local-token").stat().st_mode & 0o777 == 0o600


def test_process_refuses_keys_and_secrets_that_cannot_be(tmp_path: Path) -> None:
    secret, other, keys = tmp_path / "s.secret", tmp_path / "t.secret", tmp_path / "matcher.keys"
    write_new_secret(secret)
    write_new_secret(other)
    KeyStore.create(keys, secret.read_bytes().strip())
    shared, new = tmp_path / "shared.keys", tmp_path / "new.keys"
    KeyStore.create(shared, secret.read_bytes().strip())
    shared.chmod(0o640)
    before = {path.name for path in tmp_path.iterdir()}
    for options, line in (
        (("--secret", f"file:{other}", "--keys", keys), f"{keys} hangs on another secret; give the one that it was"),
        (("--secret", f"file:{tmp_path / 'none'}", "--keys", keys), "cannot read the secret file"),
        (("--secret", "literal", "--keys", keys), "no source of a secret; give file:PATH"),
        (("--secret", f"file:{secret}", "--keys", shared), "others can read or write the key file"),
        (("--secret", f"file:{secret}", "--keys", keys, "--keys", tmp_path / "none.keys"), "cannot read the key file"),
        (("--secret", f"file:{secret}", "--secret", f"file:{other}", "--keys", keys), "2 secrets for 1 key stores"),
        (("--secret", f"file:{secret}", "--keys", tmp_path / "no" / "folder.keys"), "its folder does not exist"),
        (("--secret", f"file:{secret}", "--keys", new, "--server", "ftp://x"), "is not a server address"),
        (("--secret", f"file:{secret}", "--keys", new, "--host", "0.0.0.0"), "there is no valid token"),
        (("--secret", f"file:{secret}", "--keys", new, "--thresholds", tmp_path / "no.json"), "cannot read"),
        (("--secret", f"file:{secret}", "--keys", new, "--tls-cert", secret), "TLS needs a certificate and its key"),
    ):
        words = options if "--server" in options else ("--server", "http://127.0.0.1:9", *options)
        assert line in failure("serve", *words)
    assert {path.name for path in tmp_path.iterdir()} == before

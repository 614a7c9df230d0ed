"""The real thing: `edge-stscq serve` in a process of its own, what `edge-stscq send` says of it, and a power cut."""

import base64
import contextlib
import json
import os
import re
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import httpx2
import pytest
from typer.testing import CliRunner

from edge_stscq._images import encode_image
from edge_stscq._local_servers import local_token
from edge_stscq.cli import _app
from edge_stscq.codec.face_decoder import FaceDecoder
from edge_stscq.errors import EdgeError
from edge_stscq.server.announcement import Announcement
from edge_stscq.server.auth.audit_log import strangers_path
from edge_stscq.server.auth.scope import Scope
from edge_stscq.server.auth.tokens import TokenStore
from edge_stscq.server.decoding.catalog import CatalogEntry
from edge_stscq.stream import CodedFace, FrameCodec
from tests.server.conftest import Run, local_bearer
from tests.support.audit_lines import audit_lines

Served = Callable[..., AbstractContextManager[tuple[str, "subprocess.Popen[str]"]]]
MakeFaces = Callable[..., list[CodedFace]]


def test_serve_and_send_survive_kill(
    served: Served,
    run: Run,
    tiny_model: Path,
    tmp_path: Path,
    entry: CatalogEntry,
    decoder: FaceDecoder,
    make_faces: MakeFaces,
) -> None:
    faces, stream, store = make_faces(5), tmp_path / "faces.stsq", tmp_path / "faces.db"
    stream.write_bytes(entry.codec.encode_stream(faces))
    with served("--model", tiny_model, "--store", store) as (url, process):
        sent = run("send", stream, "--url", url, "--device", "cam", "--start-sequence", 7, "--batch", 2, "--json")
        assert (sent.returncode, sent.stderr) == (0, "")
        counters = json.loads(sent.stdout)
        assert {key: counters[key] for key in ("frames", "stored", "duplicate", "requests", "retries")} == {
            "frames": 5, "stored": 5, "duplicate": 0, "requests": 3, "retries": 0,
        }  # fmt: skip
        process.kill()
        process.wait(180)
    with served("--model", tiny_model, "--store", store) as (url, _):
        again = run("send", stream, "--url", url, "--device", "cam", "--start-sequence", 7)
        assert again.returncode == 0
        assert "5 frames acknowledged: 0 stored, 0 extended, 5 duplicate" in again.stdout
        png = httpx2.get(f"{url}/v1/faces/cam-9.png?layers=2", headers=local_bearer(url), timeout=180)
        assert png.content == encode_image(decoder.decode([faces[2].truncate(2, entry.config.layer_ends)])[0])

        foreign = tmp_path / "foreign.stsq"
        foreign.write_bytes(FrameCodec(entry.codec.entropy, b"\xab" * 8).encode_stream(faces))
        refused = run("send", foreign, "--url", url)
        assert (refused.returncode, refused.stdout) == (2, "")
        assert re.fullmatch(r"error: .*refused.* 409 .*abababababababab.*\n", refused.stderr)


def test_serve_public_bind_with_token(
    served: Served, run: Run, tiny_model: Path, tmp_path: Path, entry: CatalogEntry, make_faces: MakeFaces
) -> None:
    faces, stream, place = make_faces(2), tmp_path / "faces.stsq", ("--model", tiny_model, "--store", tmp_path / "f.db")
    stream.write_bytes(entry.codec.encode_stream(faces))
    refused = run("serve", *place, "--host", "0.0.0.0", "--port", 0)
    assert (refused.returncode, refused.stdout) == (2, "")
    tokens = ("--tokens", tmp_path / "tokens.db")
    assert re.fullmatch(rf"error: .*edge-stscq token create --tokens {tokens[1]} .*\n", refused.stderr)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["faces.stsq"]

    made = json.loads(run("token", "create", *tokens, "--device", "cam", "--scope", "send", "--json").stdout)
    with served(*place, "--host", "0.0.0.0", said="warning: .* in the clear; .*--tls-cert.*\n") as (url, process):
        url = url.replace("0.0.0.0", "127.0.0.1")
        assert "401" in run("send", stream, "--url", url, "--device", "cam").stderr
        assert "403" in run("send", stream, "--url", url, "--device", "other", EDGE_STSCQ_TOKEN=made["token"]).stderr
        sent = run("send", stream, "--url", url, "--device", "cam", EDGE_STSCQ_TOKEN=made["token"])
        assert sent.returncode == 0
        answer, taken = send_without_length(url, made["token"])
        assert not answer or answer.startswith(b"HTTP/1.1 413 ")  # the audit log has it for certain
        assert taken < 16 << 20
        assert run("token", "revoke", made["id"], *tokens).returncode == 0
        assert "401" in run("send", stream, "--url", url, "--device", "cam", EDGE_STSCQ_TOKEN=made["token"]).stderr
        process.send_signal(signal.SIGINT)
        said = process.stdout.read()

    lines = audit_lines(tmp_path / "audit.jsonl")
    log = json.dumps(lines)
    user = f"uid {os.getuid()}"
    assert [(line["who"], line["outcome"]) for line in lines] == [
        (user, "done"), (None, 401), (made["id"], 403), (made["id"], 200), (made["id"], 413), (user, "done"),
        (None, 401),
    ]  # fmt: skip
    assert lines[3]["stored"] == 2
    assert strangers_path(tmp_path / "audit.jsonl").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "audit.jsonl").stat().st_mode & 0o777 == 0o600
    secret = made["token"].split("_", 2)[2]
    frames = [entry.codec.encode_frame(face) for face in faces]
    for text in (log, said, sent.stdout, sent.stderr):
        assert secret not in text
        for frame in frames:
            for written in (frame.hex(), base64.b64encode(frame).decode()[:-4], repr(frame)[2:-1]):
                assert written not in text


def send_without_length(url: str, token: str) -> tuple[bytes, int]:
    """POST pieces of a body without a declared length until the server answers; its answer and the bytes sent.

    A server that answers and goes while a piece is on its way cuts the line, and the answer may be lost.
    """
    address = httpx2.URL(url)
    piece = b"10000\r\n" + b"S" * 0x10000 + b"\r\n"
    with socket.create_connection((address.host, address.port or 80), timeout=60) as wire:
        head = f"POST /v1/frames HTTP/1.1\r\nHost: {address.host}\r\nAuthorization: Bearer {token}\r\n"
        wire.sendall(f"{head}Edge-Device: cam\r\nEdge-Sequence: 0\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
        taken = 0
        try:
            while not select.select([wire], [], [], 0)[0] and taken < 64 << 20:
                wire.sendall(piece)
                taken += len(piece)
            return wire.recv(4096), taken
        except ConnectionResetError:
            return b"", taken


def refusal(*arguments: object) -> str:
    """Message of `edge-stscq serve`, run in this process, when it cannot start."""
    result = CliRunner().invoke(_app(), ["serve", *map(str, arguments)])
    assert isinstance(result.exception, EdgeError), result.output
    return str(result.exception)


def test_serve_says_where_it_is_as_json(tiny_model: Path, entry: CatalogEntry, tmp_path: Path) -> None:
    words = ("serve", "--model", tiny_model, "--store", tmp_path / "f.db", "--port", 0, "--json")
    with subprocess.Popen(
        [sys.executable, "-P", "-m", "edge_stscq", *map(str, words)], stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            said = json.loads(process.stdout.readline())
            url, token, file = (said.pop(name) for name in ("url", "token", "token_file"))
            assert Path(file).read_text() == f"{token}\n"
            assert Path(file).stat().st_mode & 0o777 == 0o600
            assert local_token(url) == token
            assert said == {
                "models": {entry.model_id.hex(): "tiny"}, "accelerator": "cpu", "store": str(tmp_path / "f.db"),
                "decoders": None,
            }  # fmt: skip
            assert httpx2.get(f"{url}/ready", timeout=180).is_success
        finally:
            process.send_signal(signal.SIGINT)
        assert process.stdout.read() == ""


def test_announcement_is_one_line_for_people() -> None:
    said = Announcement("http://h:1", {"ab": "face64", "cd": "face128"}, "cuda", "faces.db", (2, 16))
    assert str(said) == (
        "serving face64 ab, face128 cd on http://h:1 (cuda, 2 to 16 decoders on Ray), faces in faces.db"
    )
    plain = Announcement("http://h:1", {"ab": "face64"}, "cpu", "faces.db")
    assert str(plain) == "serving face64 ab on http://h:1 (cpu), faces in faces.db"


def test_serve_start_failure(tiny_model: Path, tmp_path: Path) -> None:
    place = ("--model", tiny_model, "--store", tmp_path / "faces.db")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        message = refusal(*place, "--port", port)
        assert re.match(f"cannot listen on 127.0.0.1 port {port}: .*choose another --port", message)
    with contextlib.closing(TokenStore(tmp_path / "tokens.db", create=True)) as tokens:
        tokens.create("cam", [Scope.SEND])
    assert "cannot listen on no.such.host.invalid" in refusal(*place, "--host", "no.such.host.invalid")
    missing = ("--model", tmp_path / "none", "--store", tmp_path / "faces.db", "--port", 0)
    assert "none/config.json does not exist" in refusal(*missing)
    assert "choose another --store" in refusal("--model", tiny_model, "--store", tmp_path, "--port", 0)
    (tmp_path / "empty.toml").touch()
    assert "setting model: field required" in refusal("--config", tmp_path / "empty.toml")


def test_serve_config_file(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An option on the command line overrides a variable, and that the file."""
    config = tmp_path / "server.toml"
    config.write_text(f"model = {str(tiny_model)!r}\nstore = '{tmp_path}/file.db'\nhost = 'host.invalid'\nport = 1\n")
    monkeypatch.setenv("EDGE_STSCQ_HOST", "127.0.0.1")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert f"cannot listen on 127.0.0.1 port {port}" in refusal("--config", config, "--port", port)
    assert (tmp_path / "tokens.db").exists()

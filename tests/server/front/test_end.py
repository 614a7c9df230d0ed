"""A server ends in ten seconds, whoever hangs: a client that takes nothing, one that says nothing, a decoder."""

import os
import signal
import socket
import ssl
import subprocess
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from edge_stscq.server.decoding.catalog import CatalogEntry
from edge_stscq.server.front.server import END_SECONDS
from edge_stscq.stream import CodedFace
from tests.server.conftest import Run, local_bearer

Served = Callable[..., AbstractContextManager[tuple[str, "subprocess.Popen[str]"]]]
SAN = "subjectAltName=IP:127.0.0.1"
MakeFaces = Callable[..., list[CodedFace]]


def decoder_of(pid: int) -> int:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    (found,) = [each for each in children if b"spawn_main" in Path(f"/proc/{each}/cmdline").read_bytes()]
    return int(found)


def test_server_ends_in_time(
    run: Run, tiny_model: Path, tmp_path: Path, entry: CatalogEntry, make_faces: MakeFaces
) -> None:
    certificate = ("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
    made = subprocess.run(
        [*certificate, "-keyout", "a.key", "-out", "a.pem", "-subj", "/CN=a", "-days", "2", "-addext", SAN],
        cwd=tmp_path, capture_output=True, check=False,
    )  # fmt: skip
    if made.returncode:
        pytest.skip("certificates are made by the openssl command")
    from tests.server.conftest import COMMAND, environment

    tls = ("--tls-cert", str(tmp_path / "a.pem"), "--tls-key", str(tmp_path / "a.key"))
    words = ("serve", "--port", "0", "--model", str(tiny_model), "--store", str(tmp_path / "faces.db"), *tls)
    process = subprocess.Popen([*COMMAND, *words], stdout=subprocess.PIPE, text=True, env=environment())
    assert process.stdout is not None
    with process.stdout:
        url = process.stdout.readline().split(" on ")[1].split()[0]
        address, context = urlsplit(url), ssl.create_default_context(cafile=tmp_path / "a.pem")
        context.check_hostname = False
        stream = tmp_path / "a.stsq"
        stream.write_bytes(entry.codec.encode_stream(make_faces(1)))
        assert run("send", stream, "--url", url, "--ca", tmp_path / "a.pem", "--device", "cam").returncode == 0
        bearer = local_bearer(url)["Authorization"]

        def opened() -> ssl.SSLSocket:
            return context.wrap_socket(socket.create_connection((address.hostname, address.port), 60))

        idle, greedy, waiting = opened(), opened(), opened()
        greedy.sendall(b"GET /page/app.js HTTP/1.1\r\nHost: a\r\n\r\n" * 8)
        decoder = decoder_of(process.pid)
        os.kill(decoder, signal.SIGSTOP)
        head = f"GET /v1/faces/cam-0.png HTTP/1.1\r\nHost: a\r\nAuthorization: {bearer}\r\n\r\n"
        waiting.sendall(head.encode())
        time.sleep(0.5)
        begin = time.monotonic()
        process.terminate()
        process.wait(60)
        assert time.monotonic() - begin < END_SECONDS + 1
        for each in (idle, greedy, waiting):
            each.close()
    end = time.monotonic() + 60
    while Path(f"/proc/{decoder}").exists() and time.monotonic() < end:
        time.sleep(0.05)
    assert not Path(f"/proc/{decoder}").exists()

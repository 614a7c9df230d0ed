"""TLS and mutual TLS of a real server and the commands that speak to it, and files that cannot be used."""

import json
import shutil
import ssl
import subprocess
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import httpx2
import pytest

from edge_stscq._tls import client_context, server_arguments
from edge_stscq.client.spool import Spool
from edge_stscq.errors import EdgeError
from edge_stscq.server.decoding.catalog import CatalogEntry
from edge_stscq.server.security_headers import HSTS
from edge_stscq.stream import CodedFace
from edge_stscq.stream.envelope import CapturedFace
from tests.server.conftest import Run, local_bearer
from tests.support.audit_lines import audit_lines

MakeFaces = Callable[..., list[CodedFace]]
Served = Callable[..., AbstractContextManager[tuple[str, "subprocess.Popen[str]"]]]


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `ca`, `server` (for 127.0.0.1), `client` and a `stranger` that signs for itself: .pem and .key."""
    if shutil.which("openssl") is None:
        pytest.skip("certificates are made by the openssl command, which is not installed")
    folder = tmp_path_factory.mktemp("pki")

    def certificate(name: str, *signer: str) -> None:
        command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
        files = ["-keyout", f"{name}.key", "-out", f"{name}.pem", "-subj", f"/CN={name}", "-days", "2"]
        subprocess.run([*command, *files, *signer], cwd=folder, check=True, capture_output=True)

    by_ca = ("-CA", "ca.pem", "-CAkey", "ca.key", "-addext", "basicConstraints=CA:FALSE")
    certificate("ca", "-addext", "keyUsage=critical,keyCertSign")
    certificate("server", *by_ca, "-addext", "subjectAltName=IP:127.0.0.1", "-addext", "extendedKeyUsage=serverAuth")
    certificate("client", *by_ca, "-addext", "extendedKeyUsage=clientAuth")
    certificate("stranger")
    return folder


def trusting(pki: Path, authority: str = "ca", shown: str | None = None) -> ssl.SSLContext:
    """A client that trusts `authority` and shows the certificate `shown`."""
    context = ssl.create_default_context(cafile=pki / f"{authority}.pem")
    if shown:
        context.load_cert_chain(pki / f"{shown}.pem", pki / f"{shown}.key")
    return context


def test_serve_tls_only(served: Served, run: Run, tiny_model: Path, tmp_path: Path, pki: Path) -> None:
    place = ("--model", tiny_model, "--store", tmp_path / "faces.db")
    with served(*place, "--tls-cert", pki / "server.pem", "--tls-key", pki / "server.key") as (url, _):
        assert url.startswith("https://")
        answer = httpx2.get(f"{url}/ready", verify=trusting(pki), timeout=180)
        assert (answer.status_code, answer.headers["strict-transport-security"]) == (200, HSTS)
        looked = [run("doctor", "--url", url, *words, "--json") for words in (("--ca", pki / "ca.pem"), ())]
        assert [json.loads(done.stdout)["surroundings"][-1]["found"] for done in looked] == [True, False]
        assert "give the authority of its certificate with --ca" in looked[1].stdout
        with pytest.raises(httpx2.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
            httpx2.get(f"{url}/ready", verify=trusting(pki, "stranger"), timeout=180)
        with pytest.raises(httpx2.TransportError):
            httpx2.get(f"{url.replace('https', 'http')}/ready", timeout=180)


def test_serve_mutual_tls(served: Served, tiny_model: Path, tmp_path: Path, pki: Path) -> None:
    place = ("--model", tiny_model, "--store", tmp_path / "faces.db")
    files = ("--tls-cert", pki / "server.pem", "--tls-key", pki / "server.key", "--tls-client-ca", pki / "ca.pem")
    with served(*place, *files) as (url, _):
        known = trusting(pki, shown="client")
        seen = httpx2.get(f"{url}/v1/faces", verify=known, headers=local_bearer(url), timeout=180)
        assert seen.status_code == 200
        for shown in (None, "stranger"):
            with pytest.raises(httpx2.TransportError):
                httpx2.get(f"{url}/v1/faces", verify=trusting(pki, shown=shown), timeout=180)
        assert [line["what"] for line in audit_lines(tmp_path / "audit.jsonl")] == ["token create", "GET /v1/faces"]


def test_send_and_drain_client_certificate(
    served: Served, run: Run, tiny_model: Path, tmp_path: Path, pki: Path, entry: CatalogEntry, make_faces: MakeFaces
) -> None:
    place = ("--model", tiny_model, "--store", tmp_path / "faces.db")
    files = ("--tls-cert", pki / "server.pem", "--tls-key", pki / "server.key", "--tls-client-ca", pki / "ca.pem")
    faces, stream = make_faces(3), tmp_path / "faces.stsq"
    stream.write_bytes(entry.codec.encode_stream(faces))
    with Spool(tmp_path / "faces.spool", "door") as spool:
        for face in faces:
            spool.put(CapturedFace(entry.model_id, ((face.layers, entry.codec.payload(face)),)))
    ours = ("--cert", pki / "client.pem", "--key", pki / "client.key", "--ca", pki / "ca.pem")
    theirs = ("--cert", pki / "stranger.pem", "--key", pki / "stranger.key", "--ca", pki / "ca.pem")
    with served(*place, *files) as (url, _):
        for command in (("send", stream), ("spool", "drain", tmp_path / "faces.spool")):
            for shown in ((), ours[4:], ours[:4], theirs):
                refused = run(*command, "--url", url, "--attempts", 1, *shown)
                assert (refused.returncode, "cannot be reached" in refused.stderr) == (2, True)
            sent = json.loads(run(*command, "--url", url, *ours, "--json").stdout)
            assert (sent["frames"], sent["stored"]) == (3, 3)


def test_client_certificate_bad_files(pki: Path, tmp_path: Path) -> None:
    cert, key, ca, empty = pki / "client.pem", pki / "client.key", pki / "ca.pem", tmp_path / "empty.pem"
    empty.touch()
    assert client_context(None, None, None) is None
    for files, message in (
        ((cert, None, None), "both --cert and --key"),
        ((None, key, ca), "both --cert and --key"),
        ((tmp_path / "none.pem", key, None), "cannot read --cert .*none.pem: No such file"),
        ((cert, tmp_path, None), "cannot read --key .*: Is a directory"),
        ((None, None, tmp_path / "none.pem"), "cannot read --ca .*none.pem: No such file"),
        ((cert, pki / "server.key", None), "not a PEM certificate and its key: key values mismatch"),
        ((cert, key, empty), "--ca .*empty.pem has no PEM certificate"),
    ):
        with pytest.raises(EdgeError, match=message):
            client_context(*files)


def test_server_arguments_bad_files(pki: Path, tmp_path: Path) -> None:
    cert, key, ca, none = pki / "server.pem", pki / "server.key", pki / "ca.pem", tmp_path / "none.pem"
    secret, empty = tmp_path / "secret.key", tmp_path / "empty.pem"
    subprocess.run(
        ["openssl", "ec", "-in", key, "-out", secret, "-aes256", "-passout", "pass:word"],
        check=True, capture_output=True,
    )  # fmt: skip
    empty.touch()
    assert server_arguments(None, None, None) == {}
    for files, message in (
        ((cert, None, None), "both --tls-cert and --tls-key"),
        ((None, key, None), "both --tls-cert and --tls-key"),
        ((None, None, ca), "both --tls-cert and --tls-key"),
        ((none, key, None), "cannot read --tls-cert .*none.pem: No such file"),
        ((cert, none, None), "cannot read --tls-key .*none.pem: No such file"),
        ((cert, key, none), "cannot read --tls-client-ca .*none.pem: No such file"),
        ((tmp_path, key, None), "cannot read --tls-cert .*: Is a directory"),
        ((cert, pki / "client.key", None), "not a PEM certificate and its key: key values mismatch"),
        ((empty, key, None), "not a PEM certificate and its key"),
        ((cert, secret, None), "secret.key is encrypted"),
        ((cert, key, empty), "--tls-client-ca .*empty.pem has no PEM certificate"),
    ):
        with pytest.raises(EdgeError, match=message):
            server_arguments(*files)

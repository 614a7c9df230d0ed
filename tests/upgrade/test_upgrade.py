"""Files of earlier releases, read by today's code as docs/upgrading.md says.

`files/` was written by the commands of two commits, with one model of random weights: `first` by 592d0e2 (stores and
spools of layout 1), `second` by 2cf0afb (layout 2; configuration and manifest of format 1). Each holds the same faces:
a stream of four, sent to a store as door-7 to door-10, and two portraits captured into a spool as door-40 and door-41.
"""

import contextlib
import json
import shutil
import sqlite3
import subprocess
import zipfile
from pathlib import Path

import httpx2
import numpy as np
import pytest

from edge_stscq.bundle import open_bundle
from edge_stscq.bundle.selftest import selftest
from edge_stscq.bundle.signature import sign
from edge_stscq.client.drain import Drain
from edge_stscq.client.sender import Sender
from edge_stscq.client.spool import Spool
from edge_stscq.config.codec import CodecConfig
from edge_stscq.device.encoder import load_encoder
from edge_stscq.errors import EdgeError
from edge_stscq.stream import FrameCodec
from edge_stscq.stream.frame import split_stream
from tests.support.installed import need_module, need_program

FILES = Path(__file__).parent / "files"
SECOND = FILES / "second"
TOKEN = "stscq_f83605597009_QoFHaBOsOo6weGPSI0XdmUpDkzYRN48rflDv4y0qeCI"
REVOKED = "stscq_d7a9e597c01f_hWAEWdkKlCkjXz_vBxCI-zIwL27HQQrpMN-yRw-ODNE"
RELEASES = pytest.mark.parametrize("release", ["first", "second"])


@pytest.fixture
def stream() -> bytes:
    return (SECOND / "faces.stsq").read_bytes()


@pytest.fixture
def codec() -> FrameCodec:
    """Made from the old model folder, as `decode` and `serve` do."""
    need_module("torch", "pip install 'edge-stscq[server]'")
    from edge_stscq.bundle.model_folder import load_frame_codec

    return load_frame_codec(SECOND / "model")


@RELEASES
def test_store_lists_its_faces_and_goes_on(release: str, stream: bytes, codec: FrameCodec, tmp_path: Path) -> None:
    need_module("sqlalchemy", "pip install 'edge-stscq[server]'")
    from edge_stscq.server.storage.face_store import FrameBatch
    from edge_stscq.server.storage.sql_face_store import SqlFaceStore

    path = Path(shutil.copy(FILES / release / "faces.db", tmp_path))
    path.chmod(0o600)
    sent = codec.decode_stream(stream)
    for _ in range(2):
        with contextlib.closing(SqlFaceStore(path)) as store:
            faces = store.page(0, 9)
            assert [(face.id, codec.face(face.frame())) for face in faces] == [
                (f"door-{7 + n}", face) for n, face in enumerate(sent)
            ]
            assert {(face.model, face.captured_ms) for face in faces} == {(codec.model_id, None)}
            assert [face.id for face in store.changes(0, 9)] == [face.id for face in faces]
            again = [face.frame() for face in faces]
            assert store.accept_all([FrameBatch(again, lambda old, new: old == new)]) == [["duplicate"] * 4]
    with contextlib.closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def test_tokens_hold_and_revoked_ones_do_not(tmp_path: Path) -> None:
    need_module("sqlalchemy", "pip install 'edge-stscq[server]'")
    from edge_stscq.server.auth.tokens import TokenStore

    path = Path(shutil.copy(SECOND / "tokens.db", tmp_path))
    path.chmod(0o600)  # as it was written; a checkout does not keep that
    with contextlib.closing(TokenStore(path, create=False)) as tokens:
        found = tokens.find(TOKEN)
        assert found is not None
        assert (found.device, found.scopes) == ("door", ("send",))
        assert tokens.find(REVOKED) is None
        assert [token.device for token in tokens.all()] == ["door", "gone"]


def test_audit_log_is_appended_to_with_the_same_keys(tmp_path: Path) -> None:
    need_module("fastapi", "pip install 'edge-stscq[server]'")
    from edge_stscq.server.auth.audit_log import annotate_command, audit_log

    path = Path(shutil.copy(SECOND / "audit.jsonl", tmp_path))
    path.chmod(0o600)  # as it was written; a checkout does not keep that
    old = path.read_text().splitlines()
    with audit_log(path):
        annotate_command("token create", "0123456789ab", "door", "send")
    lines = path.read_text().splitlines()
    assert lines[:-1] == old
    assert json.loads(lines[-1]).keys() == json.loads(old[0]).keys()


@RELEASES
def test_spool_keeps_its_faces_and_drains(release: str, codec: FrameCodec, tmp_path: Path) -> None:
    path = Path(shutil.copy(FILES / release / "door.spool", tmp_path))
    received: dict[int, int] = {}

    def server(request: httpx2.Request) -> httpx2.Response:
        first, (header, frames) = int(request.headers["Edge-Sequence"]), split_stream(request.content)
        for sequence, frame in enumerate(frames, first):
            (face,) = codec.decode_stream(header + frame)
            received[sequence] = max(face.layers, received.get(sequence, 0))
        counts = {"stored": len(frames), "extended": 0, "duplicate": 0}
        return httpx2.Response(200, json={"device": "door", "first": first, "count": len(frames)} | counts)

    with Spool(path, "door") as spool, Sender("http://s", "door", transport=httpx2.MockTransport(server)) as sender:
        state = spool.status()
        assert (state.waiting, state.taken, state.next) == (2, 2, 42)
        drain = Drain(spool, sender)
        drain.run()
        assert (drain.report.faces, spool.waiting) == (2, 0)
    assert received == {40: 3, 41: 3}


def test_spool_of_a_newer_version_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    path = Path(shutil.copy(SECOND / "door.spool", tmp_path))
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA user_version=5")
    with pytest.raises(EdgeError, match="is of spool version 5, this program's is 4; upgrade edge-stscq"):
        Spool(path)
    with contextlib.closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (5,)
        assert db.execute("SELECT count(*) FROM faces").fetchone() == (2,)


def test_bundle_opens_as_it_is_runs_and_takes_a_signature(codec: FrameCodec, stream: bytes, tmp_path: Path) -> None:
    openssl = need_program("openssl", "apt-get install openssl")
    with zipfile.ZipFile(SECOND / "bundle.zip") as archive:
        archive.extractall(tmp_path)
    folder = tmp_path / "onnx-int8"
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert json.loads(files["manifest.json"])["format_version"] == 1
    bundle = open_bundle(folder)
    assert [layer.name for layer in bundle.config.layers] == ["basic", "middle", "enhanced"]
    assert bundle.frames.decode_stream(stream) == codec.decode_stream(stream)
    assert selftest(bundle, load_encoder(bundle)).passed
    key, pub = tmp_path / "bundles.key", tmp_path / "bundles.pub"
    subprocess.run([openssl, "genpkey", "-algorithm", "ed25519", "-out", key], check=True, capture_output=True)
    subprocess.run([openssl, "pkey", "-in", key, "-pubout", "-out", pub], check=True, capture_output=True)
    sign(folder, key)
    assert open_bundle(folder, pub).signed
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.name in files} == files


def test_configuration_is_read_and_written_in_todays_format(tmp_path: Path) -> None:
    old = SECOND / "model" / "config.json"
    assert "format_version" not in json.loads(old.read_text())
    config = CodecConfig.load(old)
    assert [(layer.name, layer.identity, layer.spatial) for layer in config.layers] == [
        ("basic", 2, 2), ("middle", 2, 2), ("enhanced", 2, 2),
    ]  # fmt: skip
    config.save(tmp_path / "config.json")
    assert json.loads((tmp_path / "config.json").read_text())["format_version"] == 2
    assert CodecConfig.load(tmp_path / "config.json") == config


def test_stream_names_its_model_and_decodes_to_its_tokens(codec: FrameCodec, stream: bytes) -> None:
    expected = json.loads((SECOND / "tokens.json").read_text())
    faces = codec.decode_stream(stream)
    assert [face.group for face in faces] == expected["groups"]
    np.testing.assert_array_equal([face.tokens for face in faces], expected["tokens"])
    assert codec.encode_stream(faces) == stream

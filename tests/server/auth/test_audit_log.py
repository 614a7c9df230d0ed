"""The audit log: one line for what somebody did, and never what was sent or seen."""

import json
import logging
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from pathlib import Path

import httpx2
import pytest
from fastapi import FastAPI

from edge_stscq.errors import EdgeError
from edge_stscq.server.auth import audit_log as audit
from edge_stscq.server.auth import guard as guard_module
from edge_stscq.server.decoding.catalog import CatalogEntry
from edge_stscq.stream import CodedFace
from tests.server.conftest import Run
from tests.support.audit_lines import audit_lines

Serve = Callable[..., AbstractAsyncContextManager[httpx2.AsyncClient]]
MakeApp = Callable[..., FastAPI]
MakeFaces = Callable[..., list[CodedFace]]
Issue = Callable[..., str]
Lines = Callable[[], list[dict[str, object]]]


@pytest.fixture
def lines(tmp_path: Path) -> Iterator[Lines]:
    """`lines()`: what was logged so far."""
    path = tmp_path / "log" / "audit.jsonl"
    with audit.audit_log(path):
        yield lambda: audit_lines(path)


@pytest.mark.anyio
async def test_audit_log_line(
    serve: Serve, issue: Issue, entry: CatalogEntry, make_faces: MakeFaces, lines: Lines
) -> None:
    token = issue("door", "send", "read")
    who = token.split("_")[1]
    body = entry.codec.encode_stream(make_faces(2))
    headers = {"Authorization": f"Bearer {token}", "Edge-Device": "door", "Edge-Sequence": "41"}
    async with serve() as client:
        await client.post("/v1/frames", content=body, headers=headers)
        await client.get("/v1/faces", headers=headers)
        await client.get("/v1/faces/door-42.png?layers=2", headers=headers)
        await client.get("/v1/models")
        await client.get("/health")
        await client.get(f"/nowhere/{token}")
    log = lines()
    for line in log:
        assert datetime.fromisoformat(str(line.pop("time"))).tzinfo
        assert line.pop("from") == "127.0.0.1"
    assert log == [
        {"who": who, "owner": "door", "what": "POST /v1/frames", "outcome": 200, "device": "door", "first": 41,
         "count": 2, "stored": 2, "extended": 0, "duplicate": 0},
        {"who": who, "owner": "door", "what": "GET /v1/faces", "outcome": 200, "after": 0, "count": 2,
         "faces": {"door": "41-42"}},
        {"who": who, "owner": "door", "what": "GET /v1/faces/{face_id}.png", "outcome": 200, "face": "door-42",
         "layers": 2},
        {"who": None, "what": "GET /v1/models", "outcome": 401},
    ]  # fmt: skip


@pytest.mark.anyio
async def test_audit_log_holds_no_secret(
    make_app: MakeApp, serve: Serve, issue: Issue, entry: CatalogEntry, make_faces: MakeFaces, lines: Lines,
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    token, foreign = issue("cam", "send", "read"), "stscq_000000000000_" + "x" * 43
    faces = make_faces(2)
    body, marker = entry.codec.encode_stream(faces), b"MARKER-OF-A-FRAME"
    sending = {"Authorization": f"Bearer {token}", "Edge-Device": "cam", "Edge-Sequence": "0"}
    app = make_app()
    caplog.set_level(logging.DEBUG)
    async with serve(app=app) as client:

        async def post(content: bytes, **headers: str) -> int:
            changed = sending | {name.replace("_", "-"): value for name, value in headers.items()}
            return (await client.post("/v1/frames", content=content, headers=changed)).status_code

        statuses = [
            await post(body),
            await post(entry.codec.encode_stream(faces[::-1])),
            await post(body + marker),
            await post(body, Authorization=f"Bearer {foreign}"),
            await post(body, Edge_Device=token + "!"),
            await post(body, Edge_Device="other"),
            (await client.get(f"/v1/faces/{token}.png", headers=sending)).status_code,
            (await client.get(f"/v1/faces?after={token}", headers=sending)).status_code,
            (await client.get("/v1/faces/cam-0.png", headers=sending)).status_code,
        ]

        def fails(*_: object) -> None:
            raise sqlite3.OperationalError("disk I/O error")

        monkeypatch.setattr(app.state.store, "accept_all", fails)
        statuses.append(await post(body))
    assert statuses == [200, 409, 400, 401, 422, 403, 403, 422, 200, 503]
    assert [line["outcome"] for line in lines()] == statuses
    ours = [record.getMessage() for record in caplog.records if not record.name.startswith("httpx2")]
    logged = "\n".join(ours) + json.dumps(lines())
    assert "the store failed: disk I/O error" in logged
    frames = [entry.codec.encode_frame(face) for face in faces]
    for secret in (token[19:], foreign[19:], marker.decode(), *(part.hex() for part in frames), *map(repr, frames)):
        assert secret not in logged


@pytest.mark.anyio
async def test_audit_log_of_erasures_and_commands_is_on_the_disk(
    serve: Serve, issue: Issue, entry: CatalogEntry, make_faces: MakeFaces, lines: Lines, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """A power cut takes no line about what cannot be found out otherwise."""
    synced, sync = list[int](), os.fsync

    def noted(file: int) -> None:
        sync(file)
        if os.path.samestat(os.fstat(file), (tmp_path / "log" / "audit.jsonl").stat()):
            synced.append(len(lines()))

    monkeypatch.setattr(os, "fsync", noted)
    headers = {"Authorization": f"Bearer {issue('*', 'send', 'read', 'delete')}"}
    async with serve() as client:
        sent = {"Edge-Device": "door", "Edge-Sequence": "41"}
        await client.post("/v1/frames", content=entry.codec.encode_stream(make_faces(1)), headers=headers | sent)
        await client.get("/v1/faces", headers=headers)
        assert synced == []
        assert (await client.delete("/v1/faces/door-41", headers=headers)).status_code == 200
        assert synced == [3]
    audit.annotate_faces("store erase", 1, ["door"])
    assert synced == [3, 4]


@pytest.mark.anyio
async def test_audit_log_repeated_refusals_suppressed(
    serve: Serve, issue: Issue, lines: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guard_module, "FAILURES_PER_MINUTE", 2)
    issue("cam", "send")
    async with serve() as client:
        for _ in range(6):
            await client.get("/v1/faces")
            await client.get("/nowhere")
    assert [line["outcome"] for line in lines()] == [401, 401, 429]


def test_audit_log_of_token_commands(run: Run, tmp_path: Path) -> None:
    tokens, log = ("--tokens", tmp_path / "tokens.db"), tmp_path / "audit.jsonl"
    made = json.loads(run("token", "create", *tokens, "--device", "door", "--scope", "read", "--json").stdout)
    assert run("token", "revoke", "000000000000", *tokens).returncode == 2
    assert run("token", "revoke", made["id"], *tokens, "--audit", tmp_path / "other.jsonl").returncode == 0
    text = log.read_text() + (tmp_path / "other.jsonl").read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    same = {"from": None, "who": f"uid {os.getuid()}", "outcome": "done", "token": made["id"], "device": "door"}
    assert [line | {"time": ""} for line in lines] == [
        {"time": "", "what": f"token {done}", "scopes": "read"} | same for done in ("create", "revoke")
    ]
    assert made["token"].split("_", 2)[2] not in text
    assert log.stat().st_mode & 0o777 == 0o600
    refused = run("token", "create", *tokens, "--device", "cam", "--audit", tmp_path)
    assert (refused.returncode, "cannot write the audit log" in refused.stderr) == (2, True)
    assert len(json.loads(run("token", "list", *tokens, "--json").stdout)) == 1


def test_audit_log_rotation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "FILE_BYTES", 100)
    monkeypatch.setattr(audit, "OLD_FILES", 2)
    path, log = tmp_path / "audit.jsonl", logging.getLogger("edge_stscq.audit")
    for begin in (0, 10):
        with audit.audit_log(path):
            for number in range(begin, begin + 10):
                log.info("%s", f"{number:40}")
    log.info("after the end")
    kept = {file.name: file.read_text().split() for file in tmp_path.iterdir()}
    assert kept.pop("audit.strangers.jsonl") == []
    assert kept == {"audit.jsonl": ["18", "19"], "audit.jsonl.1": ["16", "17"], "audit.jsonl.2": ["14", "15"]}
    assert {file.stat().st_mode & 0o777 for file in tmp_path.iterdir()} == {0o600}
    with (
        pytest.raises(EdgeError, match="cannot write the audit log .*choose another --audit"),
        audit.audit_log(tmp_path),
    ):
        pass

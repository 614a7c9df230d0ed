"""Files that cannot be written or stand still: what needs them says so, and nothing else waits for them."""

import asyncio
import errno
import os
import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, closing
from pathlib import Path

import httpx2
import pytest
from fastapi import FastAPI
from websockets.asyncio.client import connect

from edge_stscq.server.api import live
from edge_stscq.server.auth import audit_log as audit
from edge_stscq.server.auth import guard as guard_module
from edge_stscq.server.auth.tokens import TokenStore
from tests.support.audit_lines import audit_lines

pytestmark = pytest.mark.anyio
Serve = Callable[..., AbstractAsyncContextManager[httpx2.AsyncClient]]
Listen = Callable[..., AbstractAsyncContextManager[tuple[str, FastAPI]]]
MakeApp = Callable[..., FastAPI]
Issue = Callable[..., str]


async def test_audit_log_that_cannot_be_written_fails_closed(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, write = tmp_path / "audit.jsonl", os.write
    full = False

    def limited(file: int, data: bytes) -> int:
        if full and data.lstrip().startswith(b'{"time"'):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(file, data)

    monkeypatch.setattr(os, "write", limited)
    with audit.audit_log(path):
        async with serve() as client:
            assert (await client.get("/v1/faces")).status_code == 200
            full = True
            for _ in range(3):
                answer = await client.get("/v1/faces")
                assert (answer.status_code, "audit log" in answer.json()["error"]) == (503, True)
                assert "retry-after" in answer.headers
            ready = await client.get("/ready")
            assert (ready.status_code, "audit log cannot be written" in ready.json()["reason"]) == (503, True)
            assert (await client.get("/health")).status_code == 200
            full = False
            async with asyncio.timeout(30):
                while (await client.get("/ready")).status_code != 200:
                    await asyncio.sleep(0.1)
            assert (await client.get("/v1/faces")).status_code == 200
    assert [line["outcome"] for line in audit_lines(path)] == [200, "written again", 200]


async def test_audit_log_torn_line_stands_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, write, short = tmp_path / "audit.jsonl", os.write, True
    monkeypatch.setattr(os, "write", lambda file, data: write(file, data[:20] if short else data))
    trail, scope = audit.AuditTrail(), {"client": ("192.0.2.7", 1)}
    with audit.audit_log(path):
        assert not await trail.write("GET /", scope, 200, {"who": "a"})
        short = False
        assert await trail.write("GET /", scope, 200, {"who": "b"})
    torn, whole = path.read_text().splitlines()
    assert (len(torn), '"who": "b"' in whole) == (20, True)
    trail.close()


async def test_audit_log_moved_away_is_begun_anew(tmp_path: Path) -> None:
    path, trail, scope = tmp_path / "audit.jsonl", audit.AuditTrail(), {"client": ("192.0.2.7", 1)}
    with audit.audit_log(path):
        await trail.write("GET /", scope, 200, {"who": "a"})
        path.rename(tmp_path / "moved.jsonl")
        await trail.write("GET /", scope, 200, {"who": "b"})
    assert [line["who"] for line in audit_lines(path)] == ["b"]
    assert path.stat().st_mode & 0o777 == 0o600
    trail.close()


async def test_audit_log_strangers_push_nothing_out(
    serve: Serve, issue: Issue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit, "FILE_BYTES", 2000)
    monkeypatch.setattr(guard_module, "FAILURES_PER_MINUTE", 10_000)
    path, token = tmp_path / "audit.jsonl", issue("*", "read")
    with audit.audit_log(path):
        async with serve() as client:
            await client.get("/v1/faces", headers={"Authorization": f"Bearer {token}"})
            for _ in range(200):
                headers = {"X-Forwarded-For": "A" * 10_000, "Authorization": "Bearer x"}
                assert (await client.get("/v1/faces", headers=headers)).status_code == 401
    assert [line["who"] for line in audit_lines(path) if line["who"]] == [token[6:18]]
    assert sum(file.stat().st_size for file in tmp_path.glob("audit.strangers*")) < 4 * 2000
    assert {line["from"] for line in audit_lines(path)} == {"127.0.0.1"}


def test_faces_shown_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    assert audit.faces_shown([]) == {}
    monkeypatch.setattr(audit, "MAX_RANGES", 3)
    names = ["a-1", "a-2", "a-9", "b-c-5", "b-c-7", "d-0"]
    assert audit.faces_shown(names) == {"a": "1-2,9", "b-c": "5", "*": "2 more"}


async def test_tokens_locked_hold_up_who_needs_them_alone(serve: Serve, issue: Issue, tmp_path: Path) -> None:
    token = issue("*", "read")
    async with serve() as client:
        headers = {"Authorization": f"Bearer {token}"}
        assert (await client.get("/v1/faces", headers=headers)).status_code == 200
        with closing(sqlite3.connect(tmp_path / "tokens.db", isolation_level=None)) as writer:
            writer.execute("BEGIN EXCLUSIVE")
            os.utime(tmp_path / "tokens.db")
            waiting = [asyncio.create_task(client.get("/v1/faces", headers=headers)) for _ in range(20)]
            for path in ("/health", "/ready", "/"):
                for _ in range(5):
                    assert (await client.get(path)).status_code == 200
            assert not any(task.done() for task in waiting)
            writer.execute("ROLLBACK")
        assert {answer.status_code for answer in await asyncio.gather(*waiting)} == {200}


async def test_ready_probes_once_however_many_ask(
    make_app: MakeApp, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    app, go, probes = make_app(), threading.Event(), 0

    def slow() -> None:
        nonlocal probes
        probes += 1
        assert go.wait(60)

    monkeypatch.setattr(app.state.store, "check_writable", slow)
    async with serve(app=app) as client:
        asked = [asyncio.create_task(client.get("/ready")) for _ in range(50)]
        while not probes:
            await asyncio.sleep(0.01)
        assert (await client.get("/v1/faces")).status_code == 200
        answers = await asyncio.gather(*asked)
        assert {answer.status_code for answer in answers} == {503}
        assert "has not answered" in answers[0].json()["reason"]
        go.set()
        assert (await client.get("/ready")).status_code == 200
        assert probes == 1


async def test_live_ends_with_its_token_whatever_its_holder_asks(
    listen: Listen, issue: Issue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert live.RECHECK_SECONDS < 10
    monkeypatch.setattr(live, "RECHECK_SECONDS", 0.2)
    monkeypatch.setattr(guard_module, "FAILURES_PER_MINUTE", 1)
    token = issue("*", "read")
    async with listen(requests_per_minute=2) as (address, _), httpx2.AsyncClient() as client:
        headers = {"Authorization": f"Bearer {token}"}
        async with connect(f"ws://{address}/v1/live", proxy=None, additional_headers=headers) as feed:
            with closing(TokenStore(tmp_path / "tokens.db", create=False)) as tokens:
                tokens.revoke(token[6:18])
            begin, statuses = time.monotonic(), set()
            while feed.close_code is None and time.monotonic() - begin < 30:
                statuses.add((await client.get(f"http://{address}/v1/faces", headers=headers)).status_code)
                await asyncio.sleep(0.02)
            assert (feed.close_code, 429 in statuses) == (1008, True)


async def test_pictures_asked_for_by_strangers_do_not_count(listen: Listen, make_app: MakeApp, issue: Issue) -> None:
    """Nor by who does not take the answer: 300 of both leave room for who shows a token."""
    token = issue("*", "read")
    async with listen(make_app(), most_of_address=500) as (address, _):
        host, port = address.split(":")
        silent = [await asyncio.open_connection(host, int(port)) for _ in range(300)]
        for _, writer in silent:
            writer.write(b"GET /v1/faces/cam-0.png HTTP/1.1\r\nHost: a\r\n\r\n" * 4)
        async with httpx2.AsyncClient() as client:
            answer = await client.get(f"http://{address}/x.png", headers={"Authorization": f"Bearer {token}"})
            assert answer.status_code == 404
        for _, writer in silent:
            writer.transport.abort()

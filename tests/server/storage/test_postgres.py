"""PostgreSQL goes away and comes back, belongs to somebody else, and asks for a password that nobody gets to see."""

import asyncio
import logging
import re
import subprocess
import traceback
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from pathlib import Path
from urllib.parse import quote

import httpx2
import psycopg
import pytest

from benchmarks.postgres import PASSWORD, Cluster
from edge_stscq._local_servers import local_token
from edge_stscq.errors import EdgeError
from edge_stscq.server.decoding.catalog import CatalogEntry
from edge_stscq.server.storage import database
from edge_stscq.server.storage.database import StoreError
from edge_stscq.server.storage.sql_face_store import SqlFaceStore
from edge_stscq.stream import CodedFace
from tests.support.stored_faces import accept, device_frames

MakeFaces = Callable[..., list[CodedFace]]
OpenStore = Callable[[Path | str], SqlFaceStore]
Served = Callable[..., AbstractContextManager[tuple[str, "subprocess.Popen[str]"]]]
Serve = Callable[..., AbstractAsyncContextManager[httpx2.AsyncClient]]


@pytest.fixture
def url(postgres: Cluster, request: pytest.FixtureRequest) -> str:
    return postgres.new_database(request.node.name)


def test_postgres_session_settings(url: str, open_store: OpenStore) -> None:
    with open_store(f"{url}&options=-c%20synchronous_commit%3Doff%20-c%20work_mem%3D5MB")._database.write() as db:

        def shown(name: str) -> object:
            return db.exec_driver_sql(f"SHOW {name}").scalar()

        assert [shown(name) for name in ("synchronous_commit", "lock_timeout", "work_mem")] == [
            "on", "5s", "5MB",
        ]  # fmt: skip


def test_postgres_lock_timeout(url: str, open_store: OpenStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(database._POSTGRES, "lock_timeout", "50ms")
    first, second = open_store(url), open_store(url)
    with first.writing(), pytest.raises(StoreError, match="lock timeout"):
        accept(second, device_frames("cam", 0, b"a"))
    assert accept(second, device_frames("cam", 0, b"a")) == ["stored"]


@pytest.mark.anyio
async def test_postgres_outage_and_recovery(
    postgres: Cluster, url: str, serve: Serve, entry: CatalogEntry, make_faces: MakeFaces, tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    faces = make_faces(2)

    async def post(first: int) -> httpx2.Response:
        headers = {"Edge-Device": "cam", "Edge-Sequence": str(first)}
        return await client.post("/v1/frames", content=entry.codec.encode_stream([faces[first]]), headers=headers)

    async with serve(store=url, tokens=tmp_path / "tokens.db") as client:
        assert (await post(0)).json()["stored"] == 1
        postgres.stop("immediate")
        try:
            for answer in (await post(1), await client.get("/v1/faces")):
                assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
                assert answer.json() == {"error": "the store cannot be used now; the server's log says why"}
            ready = await client.get("/ready")
            assert (ready.status_code, ready.json()["ok"]) == (503, False)
            assert (await client.get("/health")).status_code == 200
        finally:
            postgres.start()
        async with asyncio.timeout(30):
            while (await client.get("/ready")).status_code != 200:  # an answer is kept for a second
                await asyncio.sleep(0.1)
        assert [(await post(number)).json()["stored"] for number in (0, 1)] == [0, 1]
        assert [face["id"] for face in (await client.get("/v1/faces")).json()["faces"]] == ["cam-0", "cam-1"]
    logged = "\n".join(record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR)
    assert "the store failed: " in logged
    assert not leaks(logged)
    assert not any(repr(entry.codec.encode_frame(face))[2:-1] in logged for face in faces)


def leaks(said: str) -> bool:
    return PASSWORD in said or quote(PASSWORD, safe="") in said


def test_postgres_errors_hide_password(url: str, open_store: OpenStore) -> None:
    foreign = psycopg.connect(url.replace("+psycopg", ""), autocommit=True)
    with foreign:
        foreign.execute("CREATE TABLE faces (mine integer)")
    secret = quote(PASSWORD, safe="")
    wrong = secret + "no"
    for place, message in (
        (url, "has tables of another program; choose another database"),
        (url.replace(secret, wrong), "password authentication failed"),
        (url.replace("/test_", "/no_"), 'database "no_.*" does not exist'),
        (f"postgresql://u:{secret}@127.0.0.1:1/x", r"^postgresql://u@127.0.0.1:1/x is not usable .*refused"),
        (f"postgresql://u:{PASSWORD}@127.0.0.1/x", "not a URL that can be read|not usable"),
        (f"postgresql://u@127.0.0.1:1/x?password={secret}", r"^postgresql://u@127.0.0.1:1/x is not"),
        (f"postgresql://u@127.0.0.1:{secret}/x", "not a URL that can be read"),
        (f"mysql://u:{secret}@host/x", "a store cannot be mysql; give a path"),
    ):
        with pytest.raises(EdgeError, match=message) as caught:
            open_store(place)
        assert "\n" not in str(caught.value)
        assert not leaks(str(caught.value)), place
        assert not leaks("".join(traceback.format_exception(caught.value)))


def test_postgres_serve_command(
    url: str, served: Served, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    entry: CatalogEntry, make_faces: MakeFaces, open_store: OpenStore,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    with served("--model", tiny_model, EDGE_STSCQ_STORE=url) as (address, process):
        token = local_token(address)
        headers = {"Edge-Device": "cam", "Edge-Sequence": "3", "Authorization": f"Bearer {token}"}
        body = entry.codec.encode_stream(make_faces(2))
        assert httpx2.post(f"{address}/v1/frames", content=body, headers=headers, timeout=60).json()["stored"] == 2
    assert [face.id for face in open_store(url).page(0, 9)] == ["cam-3", "cam-4"]
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "audit.jsonl", "audit.strangers.jsonl", "local-token", "tokens.db",
    ]  # fmt: skip
    assert re.search(r'"stored": 2', (tmp_path / "audit.jsonl").read_text())

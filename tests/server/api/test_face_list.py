"""GET /v1/faces: by device and by time, page after page."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import httpx2
import pytest

from edge_stscq.errors import EdgeError
from edge_stscq.server.decoding.catalog import CatalogEntry
from edge_stscq.server.storage import acceptance
from edge_stscq.server.storage.database import redacted, sibling_path, store_url
from edge_stscq.stream import CodedFace

Serve = Callable[..., AbstractAsyncContextManager[httpx2.AsyncClient]]
MakeFaces = Callable[..., list[CodedFace]]
Issue = Callable[..., str]


@pytest.mark.anyio
async def test_faces_filtered_by_device_and_time(
    serve: Serve, entry: CatalogEntry, make_faces: MakeFaces, issue: Issue, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serve() as client:

        async def ask(**query: object) -> tuple[int, list[str]]:
            answer = await client.get("/v1/faces", params=query, headers=headers)
            return answer.status_code, [face["id"] for face in answer.json().get("faces", [])]

        headers: dict[str, str] = {}
        for second, device in enumerate(("a", "b", "a", "b")):
            monkeypatch.setattr(acceptance.time, "time", lambda now=1_800_000_000 + second: now)
            body = entry.codec.encode_stream(make_faces(1, seed=second))
            sent = {"Edge-Device": device, "Edge-Sequence": str(second)}
            assert (await client.post("/v1/frames", content=body, headers=sent)).status_code == 200
        assert await ask(device="a") == (200, ["a-0", "a-2"])
        assert await ask(since=1_800_000_001, until=1_800_000_003) == (200, ["b-1", "a-2"])
        assert await ask(since="2027-01-15T08:00:01Z", until="2027-01-15T10:00:03+02:00") == (200, ["b-1", "a-2"])
        assert await ask(since="2027-01-15T08:00:01.5Z", device="b") == (200, ["b-3"])
        first = (await client.get("/v1/faces?device=b&limit=1")).json()
        assert await ask(device="b", limit=1, after=first["next"]) == (200, ["b-3"])
        for query in ({"since": "2027-01-15T08:00:01"}, {"until": "yesterday"}, {"since": "nan"}, {"device": "a b"}):
            assert await ask(**query) == (422, [])
        headers["Authorization"] = f"Bearer {issue('a', 'read')}"
        assert await ask() == (200, ["a-0", "a-2"])
        assert await ask(device="b") == (403, [])
        for name in ("a\0-0", "\udc80-0"):
            assert (await client.get(f"/v1/faces/{name!a}.png", headers=headers)).status_code in (403, 404)


def test_store_url_forms(tmp_path: Path) -> None:
    for place in (tmp_path / "f.db", str(tmp_path / "f.db"), f"sqlite:///{tmp_path}/f.db"):
        assert redacted(store_url(place)) == str(tmp_path / "f.db")
        assert sibling_path(place, "tokens.db") == tmp_path / "tokens.db"
    url = "postgresql://me:secret@host:5433/faces?sslmode=require"
    assert store_url(url).drivername == "postgresql+psycopg"
    assert redacted(store_url(url)) == "postgresql://me@host:5433/faces"
    assert sibling_path(url, "tokens.db") == Path("tokens.db")
    for place in ("sqlite://", "sqlite:///:memory:", "sqlite:///f.db?mode=ro"):
        with pytest.raises(EdgeError, match="a SQLite store is a plain file"):
            store_url(place)

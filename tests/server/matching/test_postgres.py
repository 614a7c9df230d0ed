"""Faces found in PostgreSQL: the answers of the index in memory, at once after a start, and none of an erased face."""

import contextlib
import dataclasses
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import httpx2
import numpy as np
import pytest
from sqlalchemy import text

from benchmarks.postgres import Cluster
from edge_stscq.errors import EdgeError
from edge_stscq.server.decoding.catalog import CatalogEntry, ModelCatalog
from edge_stscq.server.matching.indexes import open_indexes
from edge_stscq.server.matching.memory import FaceIndex
from edge_stscq.server.matching.postgres import PostgresIndex
from edge_stscq.server.matching.vectors import SearchHit
from edge_stscq.server.sealing.conversion import seal_store
from edge_stscq.server.sealing.face_seal import FaceSeal
from edge_stscq.server.sealing.key_file import KeyFile
from edge_stscq.server.settings import ServerSettings
from edge_stscq.server.storage.database import Database, StoreError
from edge_stscq.server.storage.face_store import FaceName, StoredFace
from edge_stscq.server.storage.sql_face_store import SqlFaceStore
from edge_stscq.stream import CodedFace
from edge_stscq.stream.envelope import Source, WireFrame, device_stream_id
from tests.support.stored_faces import accept

MakeFaces = Callable[..., list[CodedFace]]
OpenStore = Callable[[Path | str], SqlFaceStore]
Serve = Callable[..., AbstractAsyncContextManager[httpx2.AsyncClient]]
DEVICES = ("cam", "door", "yard")
CAM = device_stream_id("cam")
SECRET = b"0123456789abcdef0123456789abcdef"
pytestmark = pytest.mark.slow


@pytest.fixture
def url(pgvector: Cluster, request: pytest.FixtureRequest) -> str:
    made = pgvector.new_database(request.node.name)
    with contextlib.closing(SqlFaceStore(made)) as store, store.database.write() as db:
        db.execute(text("CREATE EXTENSION vector"))
    return made


@pytest.fixture
def store(url: str, open_store: OpenStore) -> SqlFaceStore:
    return open_store(url)


def put(store: SqlFaceStore, entry: CatalogEntry, faces: list[CodedFace], first: int = 0, device: str = "cam") -> None:
    source = Source(device_stream_id(device), device, entry.model_id)
    frames = [WireFrame(source, n, face.layers, entry.codec.payload(face)) for n, face in enumerate(faces, first)]
    accept(store, frames, lambda old, new: True, whole=True)


def follow(index: PostgresIndex | FaceIndex, store: SqlFaceStore) -> None:
    while changes := store.changes(index.revision, 400):
        index.add(changes)


def drawn(entry: CatalogEntry, count: int, seed: int) -> list[CodedFace]:
    """Faces of one to three layers, every tenth of the tokens of another."""
    draw, config = np.random.default_rng(seed), entry.config
    faces: list[CodedFace] = []
    for number in range(count):
        layers = int(draw.integers(1, len(config.layers) + 1))
        tokens = draw.integers(config.entries, size=config.layer_ends[-1]).astype(np.uint16)
        group = int(draw.integers(config.groups))
        if number % 10 == 9:
            group, tokens[: len(faces[-1].tokens)] = faces[-1].group, faces[-1].tokens
        faces.append(CodedFace(group, tokens[: config.layer_ends[layers - 1]], layers))
    return faces


def assert_same_answers(found: list[SearchHit], expected: list[SearchHit]) -> None:
    """Equal in rank, cosine and score; faces of one score, to float32's rounding, may change places."""
    assert len(found) == len(expected)
    for hit, other in zip(found, expected, strict=True):
        assert hit.score == pytest.approx(other.score, abs=2e-6)
        assert hit.cosine == pytest.approx(other.cosine, abs=2e-6) or hit.id != other.id
    last = expected[-1].score if expected else 0.0
    for one, others in ((found, expected), (expected, found)):
        ids = {hit.id for hit in others}
        assert all(hit.id in ids or hit.score == pytest.approx(last, abs=2e-6) for hit in one)


@pytest.mark.parametrize("released", [False, True])
def test_answers_are_those_of_the_index_in_memory(
    store: SqlFaceStore, tiny_model: Path, model_dir: Path, released: bool
) -> None:
    (entry,) = ModelCatalog([model_dir if released else tiny_model])
    faces = drawn(entry, 3000, 1)
    for number, device in enumerate(DEVICES):
        put(store, entry, faces[number * 1000 : number * 1000 + 1000], 0, device)
    memory, index = FaceIndex(entry), PostgresIndex(entry, store)
    follow(memory, store)
    follow(index, store)
    assert (len(index), index.revision) == (len(memory), memory.revision) == (3000, 3000)
    for face in [*faces[::100], *drawn(entry, 20, 2)]:
        for limit, device, least in ((24, None, -1.0), (3, "door", -1.0), (100, None, 0.1), (5, "nobody", -1.0)):
            expected = memory.search(face, limit, device, least)
            assert_same_answers(index.search(face, limit, device, least), expected)
    assert [index.count(device) for device in (None, *DEVICES, "nobody")] == [3000, 1000, 1000, 1000, 0]


def rows(store: SqlFaceStore) -> list[int]:
    """Rows of each table of vectors."""
    with store.database.read() as db:
        names = db.execute(text("SELECT tablename FROM pg_tables WHERE tablename ~ '^match_.*_' ORDER BY 1")).scalars()
        return [db.execute(text(f"SELECT count(*) FROM {name}")).scalar_one() for name in names]


def test_erased_faces_leave_in_the_same_transaction(
    store: SqlFaceStore, entry: CatalogEntry, make_faces: MakeFaces
) -> None:
    index, faces = PostgresIndex(entry, store), make_faces(3)
    put(store, entry, faces)
    follow(index, store)
    before = rows(store)
    assert set(before) == {3}
    store.erase([FaceName(CAM, 1)])
    assert rows(store) == [2] * len(before), "nobody followed"
    assert {hit.id for hit in index.search(faces[1], 9)} == {"cam-0", "cam-2"}


def test_vectors_of_a_face_erased_meanwhile_are_not_written(
    store: SqlFaceStore, entry: CatalogEntry, make_faces: MakeFaces, monkeypatch: pytest.MonkeyPatch
) -> None:
    index, faces = PostgresIndex(entry, store), make_faces(2)
    put(store, entry, faces)
    take = index._vectors.take

    def take_and_erase(changes: list[StoredFace]) -> object:
        taken = take(changes)
        store.erase([FaceName(CAM, 0)])
        return taken

    changes = store.changes(0, 9)
    monkeypatch.setattr(index._vectors, "take", take_and_erase)
    index.add(changes)
    monkeypatch.undo()
    assert set(rows(store)) == {1}
    follow(index, store)
    assert [hit.id for hit in index.search(faces[0], 9)] == ["cam-1"]
    assert index.count(None) == 1


def test_servers_share_one_index_that_outlives_them(
    url: str, open_store: OpenStore, entry: CatalogEntry, make_faces: MakeFaces
) -> None:
    first, second = open_store(url), open_store(url)
    one, other, faces = PostgresIndex(entry, first), PostgresIndex(entry, second), make_faces(4)
    short = faces[0].truncate(1, entry.config.layer_ends)
    put(first, entry, [short, *faces[1:]])
    follow(one, first)
    assert [hit.id for hit in other.search(faces[2], 1)] == ["cam-2"], "it need not have followed"
    follow(other, second)
    put(second, entry, faces[:1])
    follow(other, second)
    follow(one, first)
    assert one.revision == other.revision == 5
    assert [hit.id for hit in one.search(faces[0], 1)] == ["cam-0"]
    after = PostgresIndex(entry, open_store(url))
    assert (after.revision, len(after)) == (5, 4)
    turned = {prefix: basis[:, ::-1] for prefix, basis in after._vectors.bases.items()}
    for prefix, basis in one._vectors.bases.items():
        np.testing.assert_array_equal(basis, after._vectors.bases[prefix])
        assert not np.allclose(turned[prefix], basis), "another machine's basis would not do"


def test_another_cohort_begins_another_index(store: SqlFaceStore, model_dir: Path) -> None:
    (entry,) = ModelCatalog([model_dir])
    put(store, entry, drawn(entry, 5, 3))
    follow(PostgresIndex(entry, store), store)
    assert entry.rule is not None
    other = PostgresIndex(dataclasses.replace(entry, rule=dataclasses.replace(entry.rule, cohort=None)), store)
    assert (other.revision, len(other)) == (0, 0)
    follow(other, store)
    assert len(other) == 5


def test_sealing_removes_the_vectors(
    store: SqlFaceStore, url: str, entry: CatalogEntry, make_faces: MakeFaces, tmp_path: Path
) -> None:
    index = PostgresIndex(entry, store)
    put(store, entry, make_faces(2))
    changes = store.changes(0, 9)
    follow(index, store)
    assert seal_store(url, tmp_path / "keys.db", SECRET) == 2
    assert rows(store) == []
    for use in (lambda: index.add(changes), lambda: index.search(make_faces(1)[0], 1)):
        with pytest.raises(StoreError):
            use()
    with pytest.raises(EdgeError, match="sealed"):
        PostgresIndex(entry, store)


def test_scrub_takes_in_the_tables_of_vectors(
    store: SqlFaceStore, entry: CatalogEntry, monkeypatch: pytest.MonkeyPatch
) -> None:
    index, vacuumed = PostgresIndex(entry, store), list[str]()
    monkeypatch.setattr(Database, "_vacuum", lambda self, command, *tables: vacuumed.extend(tables))
    store.scrub()
    assert {f"match_{index._name}_{prefix}" for prefix in index._tables} < set(vacuumed)


def settings(url: str | Path, model: Path, **changes: object) -> ServerSettings:
    return ServerSettings.model_validate({"model": model, "store": url, **changes})


def test_where_the_index_lies(
    url: str, store: SqlFaceStore, pgvector: Cluster, postgres: Cluster, open_store: OpenStore, tiny_model: Path,
    catalog: ModelCatalog, entry: CatalogEntry, tmp_path: Path,
) -> None:  # fmt: skip
    def chosen(opened: SqlFaceStore, **changes: object) -> type:
        return type(open_indexes(catalog, opened, settings("-", tiny_model, **changes)).of(entry.model_id))

    assert chosen(store) is chosen(store, match_index="pgvector") is PostgresIndex
    assert chosen(store, match_faces=5) is chosen(store, match_index="memory") is FaceIndex
    bare, file = open_store(pgvector.new_database("bare")), open_store(tmp_path / "faces.db")
    assert chosen(bare) is chosen(file) is FaceIndex
    assert chosen(bare, match_index="pgvector") is chosen(bare) is PostgresIndex
    without = open_store(postgres.new_database("without"))
    with contextlib.closing(KeyFile.create(tmp_path / "keys.db", SECRET)):
        pass
    seal_store(sealed := pgvector.new_database("sealed"), tmp_path / "keys.db", SECRET)
    with contextlib.closing(SqlFaceStore(sealed, FaceSeal(KeyFile(tmp_path / "keys.db", SECRET)))) as locked:
        assert chosen(locked) is FaceIndex
        for opened, changes, message in (
            (file, {}, "takes faces in PostgreSQL"), (store, {"match_faces": 5}, "leave it out"),
            (locked, {}, "would lay match vectors of a sealed store"), (without, {}, "install its extension vector"),
        ):  # fmt: skip
            with pytest.raises(EdgeError, match=message):
                chosen(opened, match_index="pgvector", **changes)


@pytest.mark.anyio
async def test_match_over_http_and_after_a_restart(
    serve: Serve, url: str, entry: CatalogEntry, make_faces: MakeFaces, tmp_path: Path
) -> None:
    faces, tokens = make_faces(3), tmp_path / "tokens.db"
    stream = entry.codec.encode_stream(faces[1:2])

    async def match(client: httpx2.AsyncClient) -> dict[str, object]:
        page: dict[str, object] = (await client.post("/v1/match?layers=3", content=stream)).json()
        return page

    async with serve(store=url, tokens=tokens) as client:
        headers = {"Edge-Device": "cam", "Edge-Sequence": "0"}
        sent = await client.post("/v1/frames", content=entry.codec.encode_stream(faces), headers=headers)
        assert sent.json()["stored"] == 3
        while not (page := await match(client))["complete"] or page["searched"] != 3:
            pass
        assert [face["id"] for face in page["faces"]][:1] == ["cam-1"]
        metrics = await client.get("/metrics")
        assert "edge_stscq_index_faces 3.0" in metrics.text
    async with serve(store=url, tokens=tokens) as client:
        page = await match(client)
        assert (page["searched"], page["complete"], page["faces"][0]["id"]) == (3, True, "cam-1")
        assert (await client.delete("/v1/faces/cam-1")).status_code < 300
        assert "cam-1" not in [face["id"] for face in (await match(client))["faces"]]

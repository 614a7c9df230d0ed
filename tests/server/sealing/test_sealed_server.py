"""A server on a sealed store answers as one on a store in the clear does, and lays nothing down that it opened."""

import json
import secrets
from pathlib import Path

import httpx2
import pytest

from edge_stscq._local_servers import local_token
from edge_stscq._secrets import read_secret, write_new_secret
from edge_stscq.errors import EdgeError
from edge_stscq.server.decoding.catalog import CatalogEntry
from edge_stscq.server.sealing.conversion import seal_store
from tests.server.conftest import MakeApp, MakeFaces, Run, Serve, Served
from tests.support.stored_faces import Camera

pytestmark = [pytest.mark.anyio, pytest.mark.slow]


@pytest.fixture
def source(tmp_path: Path) -> str:
    write_new_secret(tmp_path / "store.secret")
    return f"file:{tmp_path / 'store.secret'}"


@pytest.fixture
def sealed(request: pytest.FixtureRequest, tmp_path: Path, source: str) -> dict[str, object]:
    """Settings of a server on a sealed store, a SQLite file unless the test says otherwise."""
    place = str(tmp_path / "faces.db")
    if getattr(request, "param", "sqlite") == "postgresql":
        place = request.getfixturevalue("postgres").new_database(secrets.token_hex(8))
    keys = tmp_path / "apart.db"
    seal_store(place, keys, read_secret(source))
    return {"store": place, "seal": source, "seal_keys": keys, "tokens": tmp_path / "tokens.db"}


@pytest.mark.parametrize("sealed", ["sqlite", "postgresql"], indirect=True)
async def test_pictures_and_lists_are_those_of_a_store_in_the_clear(
    serve: Serve, sealed: dict[str, object], entry: CatalogEntry, make_faces: MakeFaces, tmp_path: Path
) -> None:
    body, found = entry.codec.encode_stream(make_faces(2)), []
    for settings in ({"store": tmp_path / "clear.db"}, sealed):
        async with serve(**settings) as client:
            headers = {"Edge-Device": "cam", "Edge-Sequence": "0"}
            assert (await client.post("/v1/frames", content=body, headers=headers)).json()["stored"] == 2
            assert (await client.get("/ready")).status_code == 200
        async with serve(**settings) as client:  # all that follows is read from the disk
            pictures = [await client.get(f"/v1/faces/{path}") for path in ("cam-0.png", "cam-1.png?layers=1")]
            assert [picture.status_code for picture in pictures] == [200, 200]
            listed = (await client.get("/v1/faces")).json()["faces"]
            rows = [{name: face[name] for name in face if name != "received"} for face in listed]
            while (page := (await client.post("/v1/match", json={"face": "cam-0"})).json())["searched"] < 2:
                pass
            matched = [(face["id"], face["cosine"]) for face in page["faces"]]
            found.append(([picture.content for picture in pictures], rows, matched))
            await client.delete("/v1/faces/cam-0")
            assert (await client.get("/v1/faces/cam-0.png")).status_code == 404
    assert found[0] == found[1]
    assert found[0][2][0][0] == "cam-0"
    assert found[0][0][0].startswith(b"\x89PNG")
    clear, kept = (tmp_path / "clear.db").read_bytes(), b"".join(one.read_bytes() for one in tmp_path.glob("faces.db*"))
    payload = entry.codec.payload(make_faces(2)[1])
    assert payload in clear
    assert payload not in kept


async def test_people_are_named_over_http(
    serve: Serve, sealed: dict[str, object], entry: CatalogEntry, make_faces: MakeFaces, tmp_path: Path
) -> None:
    camera = Camera(entry.codec)
    frames = [camera.frame(face, number, track=number) for number, face in enumerate(make_faces(2))]
    async with serve(**sealed, persons=True) as client:
        await client.post("/v2/frames", content=camera.file(*frames), headers={"Edge-Device": camera.source.device})
        while len(visits := (await client.get("/v1/visits")).json()["visits"]) < 2:
            pass
        person = visits[0]["person"]
        named = (await client.post(f"/v1/persons/{person}/name", json={"name": "Zebulon"})).json()
        assert named["person"]["name"] == "Zebulon"
    async with serve(**sealed, persons=True) as client:
        assert [one["id"] for one in (await client.get("/v1/persons?q=zeb")).json()["persons"]] == [person]
        owners = [visit["name"] for visit in (await client.get("/v1/visits")).json()["visits"]]
        assert sorted(owners, key=str) == [None, "Zebulon"]
        assert (await client.delete(f"/v1/persons/{person}")).json() == {"forgotten": person, "faces": 1}
    assert b"Zebulon" not in b"".join(one.read_bytes() for one in tmp_path.glob("*"))


def test_server_without_the_key_does_not_start(make_app: MakeApp, sealed: dict[str, object], tmp_path: Path) -> None:
    with pytest.raises(EdgeError, match="is sealed and cannot be read without its key"):
        make_app(store=sealed["store"])
    write_new_secret(tmp_path / "other.secret")
    with pytest.raises(EdgeError, match="hangs on another secret"):
        make_app(**sealed | {"seal": f"file:{tmp_path / 'other.secret'}"})
    Path(str(sealed["seal_keys"])).unlink()
    with pytest.raises(EdgeError, match="there is no key file .*store restore-keys COPY"):
        make_app(**sealed)


def test_commands_of_people_read_a_sealed_store(
    served: Served, run: Run, tiny_model: Path, tmp_path: Path, source: str, entry: CatalogEntry, make_faces: MakeFaces
) -> None:
    store, camera = tmp_path / "faces.db", Camera(entry.codec)
    seal_store(store, tmp_path / "keys.db", read_secret(source))
    with served("--model", tiny_model, "--store", store, "--persons", EDGE_STSCQ_SEAL=source) as (address, _):
        headers = {"Edge-Device": camera.source.device, "Authorization": f"Bearer {local_token(address)}"}
        body = camera.file(camera.frame(make_faces(1)[0], 0, track=0))
        assert httpx2.post(f"{address}/v2/frames", content=body, headers=headers, timeout=60).status_code == 200
        while not (found := httpx2.get(f"{address}/v1/visits", headers=headers, timeout=60).json()["visits"]):
            pass
        person = found[0]["person"]
        named = run("person", "name", person, "Zebulon", "--store", store, "--seal", source)
        assert named.returncode == 0, named.stderr
        told = httpx2.get(f"{address}/v1/persons/{person}", headers=headers, timeout=60).json()
        assert told["name"] == "Zebulon", "the server reads what the command wrote"
    listed = json.loads(run("person", "list", "--store", store, "--json", EDGE_STSCQ_SEAL=source).stdout)
    assert [row["name"] for row in listed["persons"]] == ["Zebulon"]
    refused = run("person", "list", "--store", store)
    assert refused.returncode != 0
    assert "is sealed and cannot be read without its key" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert "person name" in (tmp_path / "audit.jsonl").read_text()
    assert "Zebulon" not in (tmp_path / "audit.jsonl").read_text()

"""Routes of visits and persons: what each answers, whom it lets in, and what it refuses."""

from collections.abc import Sequence

import httpx2
import pytest

from edge_stscq.server.decoding.catalog import CatalogEntry
from edge_stscq.server.pictures.encoder import PictureEncoder
from edge_stscq.server.pictures.process import EncodedPicture
from edge_stscq.stream.face import CodedFace
from tests.server.conftest import Issue, MakeApp, MakeFaces, Serve
from tests.support.stored_faces import Camera

pytestmark = pytest.mark.anyio
STREAMS = "/v2/frames"


async def grouped(client: httpx2.AsyncClient, visits: int) -> list[dict[str, object]]:
    """The visits, once there are as many."""
    while len(found := (await client.get("/v1/visits")).json()["visits"]) < visits:
        pass
    return list(found)


async def send(client: httpx2.AsyncClient, camera: Camera, faces: Sequence[CodedFace]) -> None:
    frames = [camera.frame(face, number, track=number) for number, face in enumerate(faces)]
    headers = {"Edge-Device": camera.source.device}
    answer = await client.post(STREAMS, content=camera.file(*frames), headers=headers)
    assert answer.status_code == 200, answer.text


async def test_visits_are_paged_newest_first(serve: Serve, entry: CatalogEntry, make_faces: MakeFaces) -> None:
    camera = Camera(entry.codec)
    async with serve(persons=True) as client:
        await send(client, camera, make_faces(5))
        found = await grouped(client, 5)
        assert [one["track"] for one in found] == [4, 3, 2, 1, 0]
        pages, before = [], ""
        while before is not None:
            page = (
                await client.get("/v1/visits", params={"limit": 2, **({"before": before} if before else {})})
            ).json()
            pages += page["visits"]
            before = page["next"]
        assert pages == found
        one = (await client.get(f"/v1/visits/{found[0]['id']}")).json()
        assert [member["id"] for member in one["members"]] == [found[0]["feature"]]
        assert (await client.get("/v1/visits/999")).json() == {"error": "there is no visit 999"}


async def test_visits_of_faces_are_told(serve: Serve, issue: Issue, entry: CatalogEntry, make_faces: MakeFaces) -> None:
    async with serve(persons=True) as client:
        camera = Camera(entry.codec)
        await send(client, camera, make_faces(3))
        newest, _, oldest = await grouped(client, 3)
        asked = {"face": [oldest["feature"], newest["feature"], f"{camera.stream}-77", "nothing"]}
        answer = (await client.get("/v1/visits/of", params=asked)).json()
        assert answer["visits"] == [newest, oldest]
        assert answer["of"] == {oldest["feature"]: oldest["id"], newest["feature"]: newest["id"]}
        header = {"Authorization": f"Bearer {issue('hall', 'read')}"}
        seen = (await client.get("/v1/visits/of", params=asked, headers=header)).json()
        assert seen == {"visits": [], "of": {}}
        assert (await client.get("/v1/visits/of")).status_code == 422
        assert (await client.get("/v1/visits/of", params={"face": ["a"] * 101})).status_code == 422


@pytest.mark.parametrize("persons", [True, False])
async def test_models_say_whether_faces_are_grouped(serve: Serve, persons: bool) -> None:
    async with serve(persons=persons) as client:
        said = (await client.get("/v1/models")).json()
        assert (said["persons"], said["pictures"]) == (persons, False)


async def test_persons_are_edited_and_undone(serve: Serve, entry: CatalogEntry, make_faces: MakeFaces) -> None:
    async with serve(persons=True) as client:
        await send(client, Camera(entry.codec), make_faces(3))
        first, second, third = (one["person"] for one in reversed(await grouped(client, 3)))
        named = (await client.post(f"/v1/persons/{first}/name", json={"name": "Ann"})).json()
        assert named["person"]["name"] == "Ann"
        merged = (await client.post(f"/v1/persons/{second}/merge", json={"others": [first, third]})).json()
        assert (merged["person"]["name"], merged["person"]["visits"]) == ("Ann", 3)
        assert (await client.get(f"/v1/persons/{first}")).status_code == 404
        late = await client.post("/v1/persons/undo", json={"edit": named["edit"]})
        assert late.status_code == 409
        assert "undo it first" in late.json()["error"]
        assert (await client.post("/v1/persons/undo", json={})).json() == {"edit": merged["edit"], "undone": "merge"}
        page = (await client.get("/v1/persons", params={"q": "aN"})).json()
        assert [one["id"] for one in page["persons"]] == [first]
        hidden = (await client.post(f"/v1/persons/{third}/hide", json={"hidden": True})).json()
        assert hidden["person"]["hidden"]
        assert len((await client.get("/v1/visits")).json()["visits"]) == 2
        assert (await client.delete(f"/v1/persons/{first}")).json() == {"forgotten": first, "faces": 1}
        assert (await client.get("/v1/persons", params={"q": "ann"})).json()["persons"] == []


async def test_persons_need_their_scopes_and_a_token_of_every_device(
    serve: Serve, issue: Issue, entry: CatalogEntry, make_faces: MakeFaces
) -> None:
    async with serve(persons=True) as client:
        await send(client, Camera(entry.codec), make_faces(1))
        (visit,) = await grouped(client, 1)
        person = visit["person"]
        asked = [
            ("GET", "/v1/visits", None, 200, 200), ("GET", f"/v1/visits/{visit['id']}", None, 200, 200),
            ("GET", "/v1/visits/changes", None, 200, 403), ("GET", "/v1/persons", None, 200, 403),
            ("GET", f"/v1/persons/{person}", None, 200, 403),
            ("POST", f"/v1/persons/{person}/name", {"name": "Ann"}, 403, 403),
            ("DELETE", f"/v1/persons/{person}", None, 403, 403),
        ]  # fmt: skip
        for device, at in (("*", 3), ("door-1", 4)):
            header = {"Authorization": f"Bearer {issue(device, 'read')}"}
            for row in asked:
                answer = await client.request(row[0], row[1], json=row[2], headers=header)
                assert answer.status_code == row[at], (device, row, answer.text)
        other = {"Authorization": f"Bearer {issue('hall', 'read')}"}
        assert (await client.get(f"/v1/visits/{visit['id']}", headers=other)).status_code == 403
        assert (await client.get("/v1/visits", headers=other)).json()["visits"] == []


async def test_enroll_takes_what_the_gate_takes(make_app: MakeApp, entry: CatalogEntry, make_faces: MakeFaces) -> None:
    (face,) = make_faces(1)
    seen = [
        EncodedPicture(entry.model_id, None, "the face is blurred", 20, None, 1),
        EncodedPicture(entry.model_id, face, None, 81, (1.0, 2.0, 3.0, 4.0), 1),
    ]
    app = make_app(persons=True, pictures=PictureEncoder(lambda data: seen.pop(0)))
    transport = httpx2.ASGITransport(app, raise_app_exceptions=False)
    async with (
        app.router.lifespan_context(app),
        httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1:8377") as client,
    ):
        refused = await client.post("/v1/persons/enroll", params={"name": "Ann"}, content=b"1")
        assert (refused.status_code, refused.json()) == (422, {"error": "the face is blurred"})
        assert (await client.get("/v1/persons")).json()["persons"] == []
        taken = (await client.post("/v1/persons/enroll", params={"name": "Ann"}, content=b"2")).json()
        assert (taken["quality"], taken["person"]["name"], taken["person"]["enrolled"]) == (81, "Ann", 1)


@pytest.mark.parametrize("name", ["", "   ", "a\u0000b", "x" * 201])
async def test_names_that_are_none_are_refused(
    serve: Serve, entry: CatalogEntry, make_faces: MakeFaces, name: str
) -> None:
    async with serve(persons=True) as client:
        await send(client, Camera(entry.codec), make_faces(1))
        (visit,) = await grouped(client, 1)
        answer = await client.post(f"/v1/persons/{visit['person']}/name", json={"name": name})
        assert answer.status_code == 400
        assert "1 to 200 characters" in answer.json()["error"]

"""Events of visits: each told once, to a webhook, a broker and whoever follows the feed, and never in ingest's way."""

import asyncio
import base64
import contextlib
import hashlib
import hmac
import json
import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import httpx2
import pytest
from fastapi import FastAPI
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from edge_stscq.errors import EdgeError
from edge_stscq.server.decoding.catalog import CatalogEntry
from edge_stscq.server.persons import events as module
from edge_stscq.server.persons import grouping as grouping_module
from edge_stscq.server.persons.editing import PersonStore
from edge_stscq.server.persons.events import EventFeed, VisitEvent
from edge_stscq.server.persons.grouping import Grouper
from edge_stscq.server.persons.publishers import make_publishers
from edge_stscq.server.persons.reading import Enrolled
from edge_stscq.server.settings import ServerSettings
from edge_stscq.server.storage.sql_face_store import SqlFaceStore
from edge_stscq.stream.face import CodedFace
from tests.demo_camera.service.doubles import Received, Receiver
from tests.events.broker import Broker
from tests.events.test_mqtt import listening
from tests.server.conftest import Issue, Listen, MakeApp, MakeFaces
from tests.support.models.match_rules import rule_of
from tests.support.stored_faces import NOON, Camera, accept

OpenStore = Callable[[Path | str], SqlFaceStore]
GAP = 60.0
SECRET = "f" * 64


@pytest.fixture
def judged(entry: CatalogEntry) -> CatalogEntry:
    """The tiny model with thresholds: equal faces are one person's, drawn ones are strangers."""
    return replace(entry, rule=rule_of(entry.model_id.hex(), entry.config.layer_names, None, 0.9, 0.6))


@pytest.fixture
def camera(entry: CatalogEntry) -> Camera:
    return Camera(entry.codec)


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "webhook.secret"
    path.touch(0o600)
    path.write_text(SECRET)
    return path


def see(store: SqlFaceStore, camera: Camera, face: CodedFace, number: int, track: int) -> None:
    accept(store, [camera.frame(face, number, NOON + 1000 * number, track=track)], same=lambda *_: True)


def told(grouper: Grouper) -> list[tuple[object, ...]]:
    """Event, visit, enrolled person and `own` of all that happened, once everything is grouped."""
    while grouper.step():
        pass
    return [(one.event, one.visit, one.enrolled, one.own) for one in grouper.happened()]


def enroll(store: SqlFaceStore, entry: CatalogEntry, name: str, face: CodedFace) -> int:
    photo = Enrolled(entry.model_id, face.layers, entry.codec.payload(face), 80)
    return PersonStore(store).enroll(name, [photo]).person


def between(first: CodedFace, second: CodedFace) -> CodedFace:
    """A face two thirds like the first."""
    odd = [at % 3 == 0 for at in range(len(first.tokens))]
    tokens = [b if one else a for one, a, b in zip(odd, first.tokens, second.tokens, strict=True)]
    return replace(first, tokens=tokens)


def test_events_tell_of_visits_and_of_verdicts_that_are_new(
    tmp_path: Path, open_store: OpenStore, judged: CatalogEntry, camera: Camera, make_faces: MakeFaces
) -> None:
    ann, ben = (replace(face, group=0) for face in make_faces(2))
    store = open_store(tmp_path / "faces.db")
    grouper = Grouper(store, [judged], GAP)
    see(store, camera, ben, 0, 0)
    assert [row[0] for row in told(grouper)] == ["visit"], "nobody is enrolled, so there is no verdict"
    person = enroll(store, judged, "Ann", ann)
    assert told(grouper) == [], "an edit is no event"
    see(store, camera, ben, 1, 1)
    assert [row[0] for row in told(grouper)] == ["visit", "unknown"]
    see(store, camera, between(ann, ben), 2, 2)
    (begun, perhaps) = told(grouper)
    assert (begun[0], perhaps[0], perhaps[2]) == ("visit", "perhaps", person)
    see(store, camera, ann, 3, 2)
    assert told(grouper) == [("known", begun[1], person, True)], "a better shot says who it is"
    see(store, camera, ann, 4, 2)
    assert told(grouper) == [], "the same verdict is told once"


def test_events_of_two_servers_are_each_told_by_one_and_heard_by_both(
    place: str, open_store: OpenStore, judged: CatalogEntry, camera: Camera, make_faces: MakeFaces
) -> None:
    stores, (ann, ben) = [open_store(place), open_store(place)], make_faces(2)
    groupers = [Grouper(one, [judged], GAP) for one in stores]
    enroll(stores[0], judged, "Ann", ann)
    for one in groupers:
        assert told(one) == []
    heard: list[list[tuple[object, ...]]] = [[], []]
    for number in range(12):
        see(stores[0], camera, (ann, ben)[number % 2], number, number)
        for at in (0, 1) if number % 3 else (1, 0):
            heard[at] += told(groupers[at])
        for at in (0, 1):
            groupers[at].likely(1)
            heard[at] += told(groupers[at])
    first, second = ([row[:3] for row in rows] for rows in heard)
    assert sorted(map(str, first)) == sorted(map(str, second)), "whoever follows either hears of all"
    assert len(first) == 24
    assert len([row for rows in heard for row in rows if row[3]]) == 24, "each goes out once"
    assert all(any(row[3] for row in rows) for rows in heard), "both took part"


def test_faces_that_waited_long_are_no_events(
    tmp_path: Path, open_store: OpenStore, judged: CatalogEntry, camera: Camera, make_faces: MakeFaces,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    store, (ann,) = open_store(tmp_path / "faces.db"), make_faces(1)
    see(store, camera, ann, 0, 0)
    now = grouping_module.time.time()
    monkeypatch.setattr(grouping_module.time, "time", lambda: now + module.FRESH_SECONDS + 1)
    assert told(Grouper(store, [judged], GAP)) == []
    monkeypatch.setattr(grouping_module.time, "time", lambda: now)
    assert told(Grouper(store, [judged], GAP)) == [], "what is grouped already is no news to a server that starts"


def test_watch_list_tells_of_a_stranger_without_keeping_one(
    tmp_path: Path, open_store: OpenStore, judged: CatalogEntry, camera: Camera, make_faces: MakeFaces
) -> None:
    store, (ann, ben) = open_store(tmp_path / "faces.db"), make_faces(2)
    person = enroll(store, judged, "Ann", ann)
    grouper = Grouper(store, [judged], GAP, watch_list=True)
    for number, face in enumerate((ben, ann)):
        see(store, camera, face, number, number)
    (begun, known, unknown) = told(grouper)
    assert unknown == ("unknown", None, None, True)
    assert (begun[0], known) == ("visit", ("known", begun[1], person, True))
    assert store.count() == 1


def event_of(number: int, device: str = "door") -> VisitEvent:
    return VisitEvent(
        event="visit", visit=number, person=1, name=None, enrolled=None, enrolled_name=None, device=device, track=None,
        began=0, face=None,
    )  # fmt: skip


@pytest.mark.anyio
async def test_feed_gives_each_follower_what_comes_and_of_too_many_the_newest() -> None:
    feed = EventFeed()
    feed.put([event_of(0)])
    every, hall = feed.follow(), feed.follow("hall")
    feed.put([event_of(1), event_of(2, "hall")])
    assert [[one.visit for one in await anext(followed)] for followed in (every, hall)] == [[1, 2], [2]]
    waiting = asyncio.ensure_future(anext(every))
    await asyncio.sleep(0)
    feed.put([])
    await asyncio.sleep(0)
    feed.put([event_of(3)])
    assert [one.visit for one in await waiting] == [3], "nothing is told twice"
    feed.put([event_of(number) for number in range(module.MOST_HAPPENED + 5)])
    assert [one.visit for one in await anext(every)] == list(range(5, module.MOST_HAPPENED + 5))


async def post(
    address: str, camera: Camera, faces: Sequence[CodedFace], first: int = 0, bearer: dict[str, str] | None = None
) -> float:
    """Send faces, each of a track of its own; the seconds it took."""
    frames = [camera.frame(face, number, track=number) for number, face in enumerate(faces, first)]
    headers = {"Edge-Device": "door-1"} | (bearer or {})
    async with httpx2.AsyncClient() as client:
        answer = await client.post(f"http://{address}/v2/frames", content=camera.file(*frames), headers=headers)
    assert answer.status_code == 200, answer.text
    return answer.elapsed.total_seconds()


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.01)


def judge(app: FastAPI, judged: CatalogEntry, watch_list: bool = False) -> None:
    """Have an application group by thresholds."""
    people = app.state.people
    people._grouper = Grouper(app.state.store, [judged], GAP, watch_list)


@pytest.mark.anyio
async def test_webhook_and_feed_get_the_same_events(
    listen: Listen, make_app: MakeApp, judged: CatalogEntry, camera: Camera, make_faces: MakeFaces, secret: Path,
    tmp_path: Path,
) -> None:  # fmt: skip
    ann, ben = make_faces(2)
    with Receiver(lambda request: (204, {}, b"")).running() as server:
        app = make_app(persons=True, webhook=f"{server.url}/hook", webhook_secret=secret)
        judge(app, judged)
        person = enroll(app.state.store, judged, "Ann", ann)
        async with listen(app) as (address, _), connect(f"ws://{address}/v1/visits/live", proxy=None) as feed:
            await post(address, camera, [ben, ann])
            async with asyncio.timeout(30):
                heard = [json.loads(await feed.recv()) for _ in range(4)]
            await until(lambda: len(server.received) == 4)
            async with httpx2.AsyncClient() as client:
                metrics = (await client.get(f"http://{address}/metrics")).text
        received = list(server.received)
    assert [json.loads(one.body) for one in received] == heard
    assert [(one["event"], one["enrolled_name"]) for one in heard] == [
        ("visit", None), ("unknown", None), ("visit", "Ann"), ("known", "Ann"),
    ]  # fmt: skip
    last = heard[-1]
    assert (last["person"], last["name"], last["enrolled"], last["device"]) == (person, "Ann", person, "door-1")
    assert last["face"] == f"{camera.stream}-1"
    assert 'edge_stscq_events_total{outcome="sent",publisher="webhook 1 127.0.0.1"} 4.0' in metrics
    for one in received:
        signed = f"{one.headers['webhook-id']}.{one.headers['webhook-timestamp']}.".encode() + one.body
        digest = base64.b64encode(hmac.new(SECRET.encode(), signed, hashlib.sha256).digest()).decode()
        assert one.headers["webhook-signature"] == f"v1,{digest}"


@pytest.mark.anyio
async def test_webhook_that_hangs_or_fails_holds_nothing_up(
    listen: Listen, make_app: MakeApp, camera: Camera, make_faces: MakeFaces, secret: Path
) -> None:
    held, faces = threading.Event(), make_faces(4)

    def answer(request: Received) -> tuple[int, dict[str, str], bytes]:
        if len(server.received) > 1:
            return 500, {}, b""
        held.wait(20)
        return 302, {"Location": f"{other.url}/elsewhere"}, b""

    with Receiver(lambda request: (204, {}, b"")).running() as other, Receiver(answer).running() as server:
        app = make_app(persons=True, webhook=server.url, webhook_secret=secret)
        async with listen(app) as (address, _):
            await post(address, camera, faces[:1])
            await until(lambda: server.received)
            assert await post(address, camera, faces[1:], 1) < 5
            await until(lambda: len(app.state.people.store.visits(10)) == 4)
            held.set()
            await until(lambda: len(server.received) > 1)
            async with httpx2.AsyncClient() as client:
                metrics = (await client.get(f"http://{address}/metrics")).text
    assert 'edge_stscq_events_total{outcome="lost",publisher="webhook 1 127.0.0.1"} 1.0' in metrics
    assert other.received == [], "a redirection is not followed"


@pytest.mark.anyio
async def test_server_with_a_watch_list_never_stores_a_stranger(
    listen: Listen, make_app: MakeApp, judged: CatalogEntry, camera: Camera, make_faces: MakeFaces
) -> None:
    ann, ben = make_faces(2)
    app = make_app(watch_list=True)
    judge(app, judged, watch_list=True)
    enroll(app.state.store, judged, "Ann", ann)
    frames = [camera.frame(face, number, track=number) for number, face in enumerate((ben, ann, ben))]
    version_1 = judged.codec.encode_stream([ben, ann])
    async with (
        listen(app) as (address, _), connect(f"ws://{address}/v1/visits/live", proxy=None) as feed,
        httpx2.AsyncClient() as client,
    ):  # fmt: skip
        sent = [
            await client.post(f"http://{address}{path}", content=body, headers={"Edge-Device": "door-1", **more})
            for path, body, more in (
                ("/v2/frames", camera.file(*frames[:1]), {}), ("/v2/frames", camera.file(*frames[1:]), {}),
                ("/v1/frames", version_1, {"Edge-Sequence": "0"}),
            )
        ]  # fmt: skip
        async with asyncio.timeout(30):
            heard = [json.loads(await feed.recv()) for _ in range(7)]
        metrics = (await client.get(f"http://{address}/metrics")).text
    answers = [answer.json() for answer in sent]
    assert [(one["count"], one["stored"], one["duplicate"]) for one in answers] == [(1, 0, 1), (2, 1, 1), (2, 1, 1)]
    assert sorted(one["event"] for one in heard) == [*["known"] * 2, *["unknown"] * 3, *["visit"] * 2]
    assert all(one["visit"] is None and one["face"] is None for one in heard if one["event"] == "unknown")
    assert "edge_stscq_watch_list_passed 3.0" in metrics
    with contextlib.closing(SqlFaceStore(app.state.store.name)) as store:
        assert (store.count(), store.latest_revision()) == (2, 2), "there was never another row"


@pytest.mark.anyio
async def test_broker_gets_events(
    listen: Listen, make_app: MakeApp, camera: Camera, make_faces: MakeFaces, tmp_path: Path
) -> None:
    broker = Broker(tmp_path).start()
    try:
        app = make_app(persons=True, mqtt=f"mqtt://127.0.0.1:{broker.port}/home/faces")
        with listening(broker.port) as heard:
            async with listen(app) as (address, _):
                await post(address, camera, make_faces(1))
                await until(lambda: [one for one in heard if one[0] == "home/faces/visits"])
            await until(lambda: ("home/faces/available", "offline", False) in heard)
    finally:
        broker.stop()
    (message,) = [json.loads(text) for topic, text, _ in heard if topic == "home/faces/visits"]
    assert (message["event"], message["device"], message["name"]) == ("visit", "door-1", None)


@pytest.mark.anyio
async def test_feed_of_events_lets_in_whom_the_list_of_visits_does(
    listen: Listen, make_app: MakeApp, issue: Issue, camera: Camera, make_faces: MakeFaces, tmp_path: Path
) -> None:
    async def status(address: str, query: str = "", **header: str) -> int:
        headers = {name.title(): value for name, value in header.items()}
        with pytest.raises(InvalidStatus) as refused:
            async with connect(f"ws://{address}/v1/visits/live{query}", proxy=None, additional_headers=headers):
                pass
        return refused.value.response.status_code

    async with listen(make_app()) as (address, _):
        assert await status(address) == 503, "no faces are grouped there"
    all_devices = {"Authorization": f"Bearer {issue('*', 'read', 'send')}"}
    hall, wrong = f"Bearer {issue('hall', 'read')}", f"Bearer {issue('hall', 'send')}"
    async with listen(make_app(persons=True)) as (address, _):
        assert await status(address, origin="https://elsewhere") == 403
        assert await status(address, authorization=wrong) == 403
        assert await status(address, "?device=door-1", authorization=hall) == 403
        async with (
            connect(f"ws://{address}/v1/visits/live", proxy=None, additional_headers={"Authorization": hall}) as one,
            connect(f"ws://{address}/v1/visits/live", proxy=None, additional_headers=all_devices) as every,
        ):
            await post(address, camera, make_faces(1), bearer=all_devices)
            async with asyncio.timeout(30):
                assert json.loads(await every.recv())["device"] == "door-1"
            await one.send("hello")
            with pytest.raises(ConnectionClosed, match="takes no messages"):
                await one.recv()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"webhook": "ftp://home/hook"}, "http://HOST/PATH"),
        ({"webhook": "file:///etc/passwd"}, "http://HOST/PATH"),
        ({"webhook": "http://ann:hunter2@home/hook"}, "no user"),
        ({"webhook": "http://home:0/hook"}, "no address"),
        ({"webhook": "http://[::1/hook"}, "no address"),
        ({"webhook": "http://home/ hook"}, "no address"),
        ({"webhook": "http://home/hook", "webhook_secret": None}, "openssl rand -hex 32"),
        ({"webhook": "http://home/hook", "persons": False}, "add --persons"),
        ({"webhook": "http://home/hook", "webhook_secret": "open"}, "chmod 600"),
        ({"webhook": "http://home/hook", "webhook_secret": "short"}, "32 to"),
        ({"webhook": None}, "goes with --webhook"),
        ({"webhook": None, "webhook_secret": None, "mqtt_ca": "secret"}, "goes with --mqtt"),
        ({"mqtt": "http://broker"}, "mqtt://HOST"),
        ({"mqtt": "mqtt://ann:hunter2@broker"}, "takes no password"),
        ({"mqtt": "mqtt://broker/a/+/b"}, "no prefix"),
        ({"mqtt": "mqtt://broker", "mqtt_password": "secret"}, "needs a user"),
        ({"mqtt": "mqtt://ann@broker", "mqtt_password": "secret"}, "in the clear"),
        ({"mqtt": "mqtt://broker", "mqtt_ca": "secret"}, "without TLS"),
        ({"mqtt": "mqtts://ann@broker", "mqtt_password": "empty"}, "is empty"),
    ],
)
def test_publishers_refuse_what_they_cannot_use(
    tmp_path: Path, tiny_model: Path, given: dict[str, object], said: str
) -> None:
    files = {"secret": (SECRET, 0o600), "open": (SECRET, 0o644), "short": ("x", 0o600), "empty": ("", 0o600)}
    for name, (text, mode) in files.items():
        (tmp_path / name).write_text(text)
        os.chmod(tmp_path / name, mode)
    secret = {} if "mqtt" in given else {"webhook_secret": "secret"}
    chosen = {"model": tiny_model, "persons": True, **secret, **given}
    for name in ("webhook_secret", "mqtt_password", "mqtt_ca"):
        if chosen.get(name) is not None:
            chosen[name] = tmp_path / str(chosen[name])
    with pytest.raises(EdgeError, match=said) as refused:
        make_publishers(ServerSettings.model_validate(chosen))
    assert "hunter2" not in str(refused.value)


def test_publishers_warn_of_names_in_the_clear(
    tiny_model: Path, secret: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def warned(webhook: str, mqtt: str) -> list[str]:
        caplog.clear()
        chosen = {"model": tiny_model, "persons": True, "webhook": webhook, "webhook_secret": secret, "mqtt": mqtt}
        make_publishers(ServerSettings.model_validate(chosen))
        return [record.getMessage() for record in caplog.records]

    assert warned("https://home/hook", "mqtts://broker") == []
    assert warned("http://127.0.0.1:1/hook", "mqtt://localhost") == []
    assert [text.partition(":")[0] for text in warned("http://home/hook", "mqtt://broker")] == ["--webhook", "--mqtt"]


def test_publishers_are_named_by_place(tmp_path: Path, tiny_model: Path, secret: Path) -> None:
    settings = ServerSettings.model_validate({
        "model": tiny_model, "watch_list": True, "webhook": "https://home.example/hook", "webhook_secret": secret,
        "mqtt": "mqtts://ann@broker.example", "mqtt_password": secret,
    })  # fmt: skip
    made = make_publishers(settings)
    assert [one.name for one in made] == ["webhook 1 home.example", "mqtt broker.example:8883"]

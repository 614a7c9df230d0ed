"""POST /v2/frames: frames that are refused alone, and faces that nobody else can write over."""

import shutil
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from pathlib import Path

import httpx2
import pytest

from edge_stscq.bundle.model_folder import load_tables
from edge_stscq.protocol import Refused
from edge_stscq.server.decoding.catalog import CatalogEntry, ModelCatalog
from edge_stscq.stream import CodedFace, FrameCodec
from edge_stscq.stream.envelope import STATIC_TABLES, Clock, Kind, WireFrame
from edge_stscq.stream.learned import Learned
from edge_stscq.stream.packed import PACKED_OR_STATIC
from edge_stscq.stream.wire import PREAMBLE, read_section, section_header
from tests.support.models.learned_weights import draw_weights
from tests.support.stored_faces import NOON, Camera
from tests.support.stream_requests import acknowledged, post, stored

pytestmark = pytest.mark.anyio
Serve = Callable[..., AbstractAsyncContextManager[httpx2.AsyncClient]]
MakeFaces = Callable[..., list[CodedFace]]


def template(camera: Camera, payload: bytes, extensions: bytes = b"", **source: object) -> WireFrame:
    """A frame of a protected template, in a stream of its own kind."""
    made = replace(camera.source, **{"kind": Kind.PROTECTED, "coder_id": STATIC_TABLES, **source})
    return WireFrame(made, 1, 1, payload, NOON, extensions=extensions)


def not_canonical(camera: Camera, face: CodedFace) -> WireFrame:
    frame = camera.frame(face, 1)
    return frame.with_payload(3, frame.payload + b"\0")


def beyond_limit(camera: Camera, face: CodedFace) -> WireFrame:
    return camera.frame(face, 1).with_payload(3, bytes(range(256)) * 4)


REFUSED: dict[str, tuple[Refused, str, Callable[[Camera, CodedFace], WireFrame]]] = {
    "model": (
        Refused.UNKNOWN_MODEL, "model abababababababab is not held here",
        lambda camera, face: Camera(camera.codec, model_id=b"\xab" * 8).frame(face, 1),
    ),
    "coder": (
        Refused.UNKNOWN_CODER, "coder 0000000000000001",
        lambda camera, face: Camera(camera.codec, coder_id=bytes(7) + b"\1").frame(face, 1),
    ),
    "template of layers": (
        Refused.NOT_CANONICAL, "a protected template has one layer, not 3",
        lambda camera, face: template(camera, bytes(64)).with_payload(3, bytes(64)),
    ),
    "template cut off": (
        Refused.NOT_CANONICAL, "a protected template has 10 to 512 bytes, not 9",
        lambda camera, face: template(camera, bytes(9)),
    ),
    "template too long": (
        Refused.NOT_CANONICAL, "a protected template has 10 to 512 bytes, not 513",
        lambda camera, face: template(camera, bytes(513)),
    ),
    "template of another model": (
        Refused.UNKNOWN_MODEL, "model abababababababab is not held here",
        lambda camera, face: template(camera, bytes(64), model_id=b"\xab" * 8),
    ),
    "template by a coder": (
        Refused.UNKNOWN_CODER, "coder 0000000000000001",
        lambda camera, face: template(camera, bytes(64), coder_id=bytes(7) + b"\1"),
    ),
    "template with an extension": (
        Refused.UNKNOWN_EXTENSION, "extension 133 is unknown; update the server",
        lambda camera, face: template(camera, bytes(64), extensions=b"\x85\0"),
    ),
    "kind": (
        Refused.UNKNOWN_KIND, "frames of kind 255",
        lambda camera, face: Camera(camera.codec, kind=255).frame(face, 1),
    ),
    "extension": (
        Refused.UNKNOWN_EXTENSION, "extension 133 is unknown; update the server",
        lambda camera, face: camera.frame(face, 1, extensions=b"\5\0\x85\0"),
    ),
    "payload": (Refused.NOT_CANONICAL, "", not_canonical),
    "length": (Refused.NOT_CANONICAL, "no face of this model has 3 layers in 1024 bytes", beyond_limit),
    "layers": (
        Refused.NOT_CANONICAL, "no face of this model has 4 layers",
        lambda camera, face: camera.frame(face, 1).with_payload(4, b"\1"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
async def test_streams_refused_alone(serve: Serve, entry: CatalogEntry, make_faces: MakeFaces, name: str) -> None:
    code, reason, make = REFUSED[name]
    camera, (first, second, third) = Camera(entry.codec), make_faces(3)
    bad = make(camera, second)
    body = camera.file(camera.frame(first, 0), bad, camera.frame(third, 2))
    async with serve() as client:
        answer = (await post(client, body)).json()
        (told,) = answer.pop("refused")
        assert answer == {"device": "door-1", "count": 3, "stored": 2, "extended": 0, "duplicate": 0}
        assert (told["stream"], told["number"], told["code"]) == (camera.stream, 1, code)
        assert reason in told["reason"]
        assert "\n" not in told["reason"]
        assert await stored(client) == [(f"{camera.stream}-0", 3), (f"{camera.stream}-2", 3)]
        # it stays refused, and the place is free for a face that can be kept
        assert await acknowledged(client, camera.file(bad)) == {1: code}
        assert await acknowledged(client, camera.file(camera.frame(second, 1))) == {"stored": 1}


async def test_streams_packing_coder_is_kept(serve: Serve, entry: CatalogEntry, make_faces: MakeFaces) -> None:
    """The same face by the coder of the tables, under the same name, is a conflict."""
    codec = entry.codec
    camera, (face,) = Camera(FrameCodec(codec.entropy, codec.model_id, PACKED_OR_STATIC)), make_faces(1)
    too_long = camera.frame(face, 1).with_payload(1, b"\xff" * 99)
    async with serve() as client:
        assert await acknowledged(client, camera.faces([face])) == {"stored": 1}
        assert await acknowledged(client, camera.file(too_long)) == {1: Refused.NOT_CANONICAL}
        assert await acknowledged(client, Camera(codec).faces([face])) == {0: "conflict"}
        assert await stored(client) == [(f"{camera.stream}-0", 3)]


async def test_streams_learned_coder_is_kept_where_the_model_has_it(
    serve: Serve, tiny_model: Path, tmp_path: Path, make_faces: MakeFaces
) -> None:
    """A server whose model has no learned coder, or another, refuses each frame alone and stores nothing."""
    folder = Path(shutil.copytree(tiny_model, tmp_path / "model"))
    tables, (face,) = load_tables(folder), make_faces(1)
    learned = Learned(draw_weights(tables), tables)
    learned.weights.save(folder / "learned.safetensors")
    (entry,) = ModelCatalog([folder])
    camera = Camera(FrameCodec(tables, entry.model_id, learned.coder_id, learned))
    frame = camera.frame(face, 1)
    spoiled = frame.with_payload(3, frame.payload + b"\0")
    async with serve(model=folder) as client:
        assert await acknowledged(client, camera.faces([face])) == {"stored": 1}
        assert await acknowledged(client, camera.file(spoiled)) == {1: Refused.NOT_CANONICAL}
        picture = await client.get(f"/v1/faces/{camera.stream}-0.png")
        assert (picture.status_code, picture.headers["content-type"]) == (200, "image/png")
    async with serve(store=tmp_path / "other.db") as client:
        assert await acknowledged(client, camera.faces([face])) == {0: Refused.UNKNOWN_CODER}


async def test_streams_many_models_refused_in_short_reasons(
    serve: Serve, entry: CatalogEntry, make_faces: MakeFaces
) -> None:
    camera = Camera(entry.codec, model_id=b"\xab" * 8)
    async with serve() as client:
        answer = await post(client, camera.faces(make_faces(1) * 1000))
        assert [one["number"] for one in answer.json()["refused"]] == list(range(1000))
        assert len(answer.content) < 250_000


async def test_streams_critical_extension_of_a_section(
    serve: Serve, entry: CatalogEntry, make_faces: MakeFaces
) -> None:
    """All frames of that section are refused, and none of the others."""
    camera, (first, second) = Camera(entry.codec), make_faces(2)
    plain, marked = camera.faces([first]), camera.faces([second, first], 1)
    section, begin = read_section(marked, len(PREAMBLE))
    for extensions, expected in ((b"\x90\1x", {"stored": 1, 1: "unknown-extension", 2: "unknown-extension"}),
                                 (b"\x10\1x", {"stored": 2, "duplicate": 1})):  # fmt: skip
        async with serve() as client:
            header = section_header(replace(section, extensions=extensions))
            assert await acknowledged(client, plain + header + marked[begin:]) == expected


def np_changed(face: CodedFace) -> object:
    """Tokens of which the first is another."""
    tokens = face.tokens.copy()
    tokens[0] ^= 1
    return tokens


CONFLICTS: dict[str, Callable[[Camera, CodedFace, CodedFace], tuple[Camera, WireFrame]]] = {
    "time": lambda camera, face, other: (camera, camera.frame(face, 1, NOON + 1)),
    "clock": lambda camera, face, other: (
        (later := Camera(camera.codec, clock=Clock.UNSYNCHRONIZED)), later.frame(face, 1, NOON)
    ),
    "no clock": lambda camera, face, other: ((later := Camera(camera.codec, clock=Clock.NONE)), later.frame(face, 1)),
    "device": lambda camera, face, other: ((later := Camera(camera.codec, "door-2")), later.frame(face, 1, NOON)),
    "payload": lambda camera, face, other: (camera, camera.frame(other, 1, NOON)),
    "more layers": lambda camera, face, other: (
        camera, camera.frame(CodedFace(face.group, np_changed(face), 3), 1, NOON)
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CONFLICTS)
async def test_streams_conflict(serve: Serve, entry: CatalogEntry, make_faces: MakeFaces, name: str) -> None:
    camera, (first, face, other) = Camera(entry.codec), make_faces(3)
    short = face.truncate(1, entry.config.layer_ends)
    held = short if name == "more layers" else face
    later, clash = CONFLICTS[name](camera, face, other)
    async with serve() as client:
        assert await acknowledged(client, camera.file(camera.frame(held, 1, NOON))) == {"stored": 1}
        before = (await client.get("/v1/faces")).json()["faces"]
        body = later.file(later.frame(first, 0, NOON), clash, later.frame(first, 2, NOON))
        answer = (await post(client, body)).json()
        assert answer["refused"] == [{
            "stream": camera.stream, "number": 1, "code": "conflict",
            "reason": f"{camera.stream}-1 is already another face",
        }]  # fmt: skip
        assert answer["stored"] == 2
        assert (await client.get("/v1/faces?limit=1")).json()["faces"] == before


async def test_streams_conflict_within_a_file(serve: Serve, entry: CatalogEntry, make_faces: MakeFaces) -> None:
    camera, (face, other) = Camera(entry.codec), make_faces(2)
    body = camera.file(camera.frame(face, 1), camera.frame(other, 1), camera.frame(face, 1))
    async with serve() as client:
        assert await acknowledged(client, body) == {"stored": 1, "duplicate": 1, 1: "conflict"}


async def test_streams_cannot_be_written_without_their_key(
    serve: Serve, entry: CatalogEntry, make_faces: MakeFaces
) -> None:
    """Knowing an id, which the server shows, and having the right to send as this very device are not enough."""
    victim, (face, other) = Camera(entry.codec), make_faces(2)
    async with serve() as client:
        await post(client, victim.faces([face]))
        before = (await client.get("/v1/faces")).json()["faces"]
        honest = victim.faces([other])
        assert honest.count(victim.key) == 1
        assert (await post(client, honest.replace(victim.key, victim.source.stream_id))).status_code == 400
        section, begin = read_section(honest, len(PREAMBLE))
        forged = PREAMBLE + section_header(replace(section, key=victim.source.stream_id)) + honest[begin:]
        assert (await post(client, forged)).status_code == 400
        assert await acknowledged(client, Camera(entry.codec, key=victim.source.stream_id).faces([other])) == {
            "stored": 1
        }
        # version 1, by a device that is called like the stream
        headers = {"Edge-Device": victim.stream, "Edge-Sequence": "0"}
        answer = await client.post("/v1/frames", content=entry.codec.encode_stream([other]), headers=headers)
        assert answer.json()["stored"] == 1
        assert (await client.get("/v1/faces?limit=1")).json()["faces"] == before

"""A server takes, decodes and matches faces of as many layers as their model has."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import cv2
import httpx2
import numpy as np
import pytest

from edge_stscq.bundle.model_folder import load_config, load_frame_codec
from edge_stscq.codec.face_decoder import FaceDecoder
from edge_stscq.config.codec import CodecConfig
from edge_stscq.stream import CodedFace, FrameCodec

Serve = Callable[..., AbstractAsyncContextManager[httpx2.AsyncClient]]
HEADERS = {"Edge-Device": "cam", "Edge-Sequence": "0"}


def random_face(config: CodecConfig, layers: int) -> CodedFace:
    end = config.layer_ends[layers - 1]
    tokens = np.random.default_rng(0).integers(config.entries, size=end)
    return CodedFace(1, tokens, layers)


@pytest.mark.anyio
async def test_faces_are_decoded_and_matched_at_every_layer(serve: Serve, layered_model: Path) -> None:
    config, frames, decoder = load_config(layered_model), load_frame_codec(layered_model), FaceDecoder(layered_model)
    count = len(config.layers)
    face = random_face(config, count)
    async with serve(model=layered_model) as client:
        (held,) = (await client.get("/v1/models")).json()["models"]
        assert [layer["name"] for layer in held["config"]["layers"]] == list(config.layer_names)
        for layers in sorted({1, count}):  # a coarse face first, which then gains the rest
            stream = frames.encode_stream([face.truncate(layers, config.layer_ends)])
            assert (await client.post("/v1/frames", content=stream, headers=HEADERS)).status_code == 200
            assert (await client.get("/v1/faces")).json()["faces"][0]["layers"] == layers
        for layers in range(1, count + 1):
            answer = await client.get(f"/v1/faces/cam-0.png?layers={layers}")
            assert answer.headers["Edge-Layers"] == str(layers)
            picture = cv2.imdecode(np.frombuffer(answer.content, np.uint8), cv2.IMREAD_COLOR)[:, :, ::-1]
            alone = decoder.decode([face.truncate(layers, config.layer_ends)])[0]
            assert np.abs(picture.astype(int) - alone.astype(int)).max() <= 1
            for body in (stream, b'{"face": "cam-0"}'):
                answer = await client.post(f"/v1/match?layers={layers}", content=body)
                assert (answer.status_code, answer.json()["layers"]) == (200, layers)
        if count < 15:
            for answer in (
                await client.get(f"/v1/faces/cam-0.png?layers={count + 1}"),
                await client.post(f"/v1/match?layers={count + 1}", content=stream),
            ):
                assert answer.status_code in (400, 404)
                assert f"has {count} of the {count + 1} layers asked for" in answer.json()["error"]
        assert (await client.get("/v1/faces/cam-0.png?layers=16")).status_code == 422


@pytest.mark.anyio
async def test_stream_of_an_unknown_model_is_refused_by_its_id(
    serve: Serve, tiny_model: Path, four_layer_model: Path
) -> None:
    held, foreign = load_frame_codec(tiny_model), load_frame_codec(four_layer_model)
    stream = foreign.encode_stream([random_face(load_config(four_layer_model), 4)])
    # the header of the model held, before frames of the other one: the checksum tells
    mixed = held.header() + stream[len(held.header()) :]
    short = FrameCodec(held.entropy, foreign.model_id).encode_stream([random_face(load_config(tiny_model), 1)])
    async with serve(model=tiny_model) as client:
        for path in ("/v1/frames", "/v1/match"):
            for body in (stream, short):
                answer = await client.post(path, content=body, headers=HEADERS)
                assert answer.status_code == 409
                error = answer.json()["error"]
                assert f"of model {foreign.model_id.hex()} and this server holds {held.model_id.hex()}" in error
                assert "\n" not in error
            assert (await client.post(path, content=mixed, headers=HEADERS)).status_code == 400
        assert (await client.get("/v1/faces")).json()["faces"] == []

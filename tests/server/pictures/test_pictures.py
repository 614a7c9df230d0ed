"""Search by an uploaded picture: coded as a camera codes it, in a process that has given everything else up."""

import asyncio
import json
import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager, closing
from pathlib import Path

import cv2
import httpx2
import numpy as np
import pytest
from fastapi import FastAPI

from demo_camera.sample_portraits import portraits
from edge_stscq._images import encode_image, read_image
from edge_stscq.bundle import open_bundle
from edge_stscq.device.detect import Detector
from edge_stscq.device.encoder import load_encoder
from edge_stscq.device.quality.gate import QualityGate
from edge_stscq.errors import EdgeError
from edge_stscq.server.decoding.backend import BusyError
from edge_stscq.server.pictures import process
from edge_stscq.server.pictures.encoder import MAX_WAITING, PictureEncoder
from edge_stscq.server.pictures.process import EncodedPicture, EncoderProcess
from tests.support.models.released import Released

MakeApp = Callable[..., FastAPI]
Serve = Callable[..., AbstractAsyncContextManager[httpx2.AsyncClient]]

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def coder(released: Released) -> Iterator[EncoderProcess]:
    with closing(EncoderProcess(released.bundle)) as started:
        started.wait_until_ready()
        yield started


@pytest.fixture(scope="module")
def hopper() -> bytes:
    return portraits()["grace_hopper"].read_bytes()


def test_picture_is_coded_as_a_camera_codes_it(coder: EncoderProcess, released: Released, hopper: bytes) -> None:
    picture, detector = read_image(portraits()["grace_hopper"]), Detector()
    judgement = QualityGate(detector).judge(picture, detector.faces(picture)[0])
    expected = load_encoder(open_bundle(released.bundle)).encode(judgement.crop)
    found = coder.encode(hopper)
    assert found.face is not None
    assert found.face.group == expected.group
    assert np.array_equal(found.face.tokens, expected.tokens)
    assert (found.reason, found.quality, found.faces) == (None, judgement.score, 1)
    assert found.box == pytest.approx(judgement.face.box)


def test_process_is_confined(coder: EncoderProcess) -> None:
    # where this system has neither, the word is "none", and /proc says no less
    status = Path(f"/proc/{coder._process.pid}/status").read_text()
    assert ("seccomp" in coder.confinement) == ("Seccomp:\t2" in status)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: b"", "damaged or not a picture"), (lambda: b"\xff\xd8\xff" + bytes(100), "damaged or not a picture"),
        (lambda: encode_image(np.full((300, 300, 3), 90, np.uint8)), "no face found"),
    ],
)  # fmt: skip
def test_picture_without_a_face_says_why(coder: EncoderProcess, make: Callable[[], bytes], said: str) -> None:
    found = coder.encode(make())
    assert found.face is None
    assert found.reason is not None
    assert said in found.reason


def test_picture_that_unfolds_too_far_is_not_decoded(coder: EncoderProcess) -> None:
    side = 9000
    done, data = cv2.imencode(".png", np.zeros((side, side), np.uint8))
    assert done
    reason = coder.encode(data.tobytes()).reason
    assert reason is not None
    assert "9000 x 9000 pixels are too many" in reason


def test_gate_refuses_with_its_reason(coder: EncoderProcess, hopper: bytes) -> None:
    picture = read_image(portraits()["grace_hopper"])
    blurred = cv2.GaussianBlur(picture, (0, 0), 6)
    found = coder.encode(encode_image(np.asarray(blurred, np.uint8)))
    assert found.face is None
    assert found.reason is not None
    assert "blurred" in found.reason
    assert found.box is not None


def test_process_that_dies_is_replaced(coder: EncoderProcess, hopper: bytes) -> None:
    assert coder._process.pid is not None
    os.kill(coder._process.pid, 9)
    coder._process.join()
    assert coder.encode(hopper).face is not None


def test_bundle_that_does_not_load_is_told_at_the_start(released: Released, tmp_path: Path) -> None:
    with pytest.raises(EdgeError, match="manifest.json"):
        EncoderProcess(tmp_path)


@pytest.mark.parametrize(
    "answer",
    [
        b"\x80\x04\x95", b"{}x", json.dumps({"group": 0, "tokens": [1], "layers": 1}).encode(),
        json.dumps({"group": 99, "tokens": [1] * 64, "layers": 3}).encode(), json.dumps({"more": 1}).encode(),
        json.dumps({"group": 0, "tokens": [-1] * 64, "layers": 3}).encode(),
    ],
)  # fmt: skip
def test_answers_of_a_process_taken_over_are_not_believed(
    released: Released, answer: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(EncoderProcess, "_start", lambda self: None)
    coder = EncoderProcess(released.bundle)
    ours, its = multiprocessing.Pipe()
    ended = []

    class Process:
        exitcode = -9

        def is_alive(self) -> bool:
            return True

        def kill(self) -> None:
            ended.append(True)

        def join(self, timeout: float | None = None) -> None:
            pass

    coder._process, coder._pipe, coder._ready = Process(), ours, True  # type: ignore[assignment]
    its.send_bytes(answer)
    with pytest.raises(RuntimeError, match="ended"):
        coder.encode(b"picture")
    assert ended


def test_process_that_hangs_is_ended(coder: EncoderProcess, hopper: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "HUNG_SECONDS", 0.0)
    with pytest.raises(BusyError, match="did nothing for 0 seconds"):
        coder.encode(hopper)
    monkeypatch.undo()
    assert coder.encode(hopper).face is not None


@pytest.mark.anyio
async def test_pictures_beyond_what_may_wait_are_refused() -> None:
    go = threading.Event()
    done = EncodedPicture(bytes(8), None, "none", 0, None, 0)

    def slow(data: bytes) -> EncodedPicture:
        go.wait()
        return done

    encoder = PictureEncoder(slow)
    waiting = [asyncio.create_task(encoder.encode(b"")) for _ in range(MAX_WAITING)]
    await asyncio.sleep(0)
    with pytest.raises(BusyError, match="pictures are being coded"):
        encoder.check_free()
    go.set()
    assert await asyncio.gather(*waiting) == [done] * MAX_WAITING
    encoder.check_free()
    encoder.close()


@pytest.mark.anyio
async def test_match_by_picture_and_its_refusals(
    serve: Serve, make_app: MakeApp, model_dir: Path, coder: EncoderProcess, hopper: bytes
) -> None:
    app = make_app(model=model_dir, max_picture_bytes=len(hopper), pictures=PictureEncoder(coder.encode))
    (entry,) = app.state.catalog
    face = coder.encode(hopper).face
    assert face is not None
    headers = {"Authorization": "Bearer -"}
    async with serve(app=app) as client:
        sent = {"Edge-Device": "door", "Edge-Sequence": "0", **headers}
        assert (await client.post("/v1/frames", content=entry.codec.encode_stream([face]), headers=sent)).is_success
        async with asyncio.timeout(30):
            while True:
                answer = await client.post("/v1/match/picture", content=hopper, headers=headers)
                assert answer.status_code == 200
                if answer.json()["faces"]:
                    break
        page = answer.json()
        assert (page["verdict"], page["faces_in_picture"], page["layers"]) == ("same person", 1, 3)
        assert page["faces"][0]["cosine"] == pytest.approx(1, abs=1e-4)
        deeper = await client.post("/v1/match/picture?layers=2", content=hopper, headers=headers)
        assert (deeper.json()["layers"], deeper.json()["verdict"]) == (2, "same person")
        for content, query, status, said in (
            (hopper + b"x", "", 413, "over"), (b"GIF89a", "", 422, "not a picture"),
            (hopper, "?layers=9", 400, "layers"),
        ):  # fmt: skip
            refused = await client.post(f"/v1/match/picture{query}", content=content, headers=headers)
            assert refused.status_code == status
            assert said in refused.json()["error"]


@pytest.mark.anyio
async def test_picture_is_not_read_before_the_token(serve: Serve, make_app: MakeApp) -> None:
    def never(data: bytes) -> EncodedPicture:
        raise AssertionError("read")

    async with serve(app=make_app(pictures=PictureEncoder(never))) as client:
        answer = await client.post("/v1/match/picture", content=b"x" * 100, headers={"Authorization": "Bearer x"})
        assert answer.status_code == 401


@pytest.mark.anyio
async def test_server_without_a_bundle_says_how_to_get_one(serve: Serve) -> None:
    async with serve() as client:
        answer = await client.post("/v1/match/picture", content=b"x", headers={"Authorization": "Bearer -"})
        assert answer.status_code == 503
        assert "--bundle" in answer.json()["error"]

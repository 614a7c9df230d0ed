"""The decoder in a process of its own: the same pictures, and no way to take the server with it."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import httpx2
import numpy as np
import pytest

from edge_stscq.codec.face_decoder import FaceDecoder
from edge_stscq.errors import EdgeError
from edge_stscq.server.decoding import worker as worker_module
from edge_stscq.server.decoding.backend import BusyError
from edge_stscq.server.decoding.batcher import run_isolating_failures
from edge_stscq.server.decoding.catalog import CatalogEntry
from edge_stscq.server.decoding.request import DecodeRequest
from edge_stscq.server.decoding.worker import DecoderProcess
from edge_stscq.stream import CodedFace
from tests.server.conftest import local_bearer

MakeFaces = Callable[..., list[CodedFace]]


@pytest.fixture(scope="module")
def worker(tiny_model: Path) -> DecoderProcess:
    with contextlib.closing(DecoderProcess([tiny_model], "cpu")) as made:
        made.wait_until_ready()
        yield made


@pytest.fixture
def requests(entry: CatalogEntry, make_faces: MakeFaces) -> list[DecodeRequest]:
    ends = entry.config.layer_ends
    return [DecodeRequest(entry.model_id, face.truncate(layers, ends)) for layers, face in enumerate(make_faces(3), 1)]


def running(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists() and " Z " not in Path(f"/proc/{pid}/stat").read_text()


def test_worker_same_pictures(worker: DecoderProcess, decoder: FaceDecoder, requests: list[DecodeRequest]) -> None:
    assert np.array_equal(worker.decode(requests), decoder.decode([request.face for request in requests]))


def test_worker_survives_failed_batch(worker: DecoderProcess, requests: list[DecodeRequest]) -> None:
    before, good = worker.pid, requests[0]
    with pytest.raises(RuntimeError, match="KeyError"):
        worker.decode([good, DecodeRequest(bytes(8), good.face)])
    assert len(worker.decode([good])) == 1
    assert worker.pid == before


def decode_when_ready(worker: DecoderProcess, requests: list[DecodeRequest]) -> list[np.ndarray]:
    """Pictures that a client gets who comes again when it is told to."""
    end = time.monotonic() + 120
    while (busy := worker.unavailable()) is not None:
        assert time.monotonic() < end, "the decoder did not start"
        assert busy.retry_after >= 1
        time.sleep(0.05)
    return worker.decode(requests)


def test_worker_restarts_after_kill(worker: DecoderProcess, requests: list[DecodeRequest]) -> None:
    before = worker.pid
    os.kill(before, signal.SIGSTOP)
    os.kill(before, signal.SIGKILL)
    with pytest.raises((RuntimeError, BusyError), match=r"ended with -9|the decoder is starting"):
        worker.decode(requests)
    assert worker.unavailable() is not None, "the next face is refused, not kept waiting"
    assert len(decode_when_ready(worker, requests)) == len(requests)
    assert worker.pid != before


def test_worker_hung_is_replaced(
    worker: DecoderProcess, requests: list[DecodeRequest], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its batch is refused once, however many faces it has, and the next one is decoded."""
    monkeypatch.setattr(worker_module, "HUNG_SECONDS", 0.2)
    before = worker.pid
    os.kill(before, signal.SIGSTOP)
    outcomes = run_isolating_failures(worker.decode, requests)
    assert [type(outcome) for outcome in outcomes] == [BusyError] * len(requests)
    assert "did nothing for 0.2 seconds" in str(outcomes[0])
    monkeypatch.setattr(worker_module, "HUNG_SECONDS", 60)
    assert "the decoder is starting" in str(worker.unavailable())
    with pytest.raises(BusyError, match="the decoder is starting"):
        worker.decode(requests)
    assert len(decode_when_ready(worker, requests)) == len(requests)
    assert worker.pid != before


def test_worker_start_failure(tmp_path: Path) -> None:
    with (
        contextlib.closing(DecoderProcess([tmp_path], "cpu")) as worker,
        pytest.raises(EdgeError, match=f"the decoder cannot start: .*{tmp_path}"),
    ):
        worker.wait_until_ready()


def test_worker_ends_with_killed_server(tiny_model: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from edge_stscq.server.decoding.worker import DecoderProcess\n"
        "if __name__ == '__main__':\n"
        "    worker = DecoderProcess([Path(sys.argv[1])], 'cpu'); worker.wait_until_ready()\n"
        "    print(worker.pid, flush=True); input()\n"
    )
    server = subprocess.Popen(
        [sys.executable, "-c", script, str(tiny_model)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    pid = int(server.stdout.readline())
    assert running(pid)
    server.kill()
    server.communicate()
    end = time.monotonic() + 60
    while running(pid) and time.monotonic() < end:
        time.sleep(0.05)
    assert not running(pid)


def test_server_outlives_killed_worker(
    served: Callable[..., contextlib.AbstractContextManager[tuple[str, "subprocess.Popen[str]"]]],
    tiny_model: Path, tmp_path: Path, entry: CatalogEntry, make_faces: MakeFaces,
) -> None:  # fmt: skip
    place, said = ("--model", tiny_model, "--store", tmp_path / "faces.db"), "(?s)(.*process ended with -9\n)?"
    with served(*place, "--cache-bytes", 0, said=said) as (url, process):
        bearer = local_bearer(url)
        headers = {"Edge-Device": "cam", "Edge-Sequence": "0", **bearer}
        sent = httpx2.post(f"{url}/v1/frames", content=entry.codec.encode_stream(make_faces(1)), headers=headers)
        assert sent.status_code == 200
        first = httpx2.get(f"{url}/v1/faces/cam-0.png", headers=bearer, timeout=60)
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        (worker,) = [pid for pid in children if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()]
        os.kill(int(worker), signal.SIGKILL)
        answers = [httpx2.get(f"{url}/v1/faces/cam-0.png", headers=bearer, timeout=60)]
        ready = [httpx2.get(f"{url}/ready")]
        end = time.monotonic() + 120
        while answers[-1].status_code != 200 and time.monotonic() < end:
            time.sleep(float(answers[-1].headers.get("Retry-After", 0)))
            answers.append(httpx2.get(f"{url}/v1/faces/cam-0.png", headers=bearer, timeout=60))
        assert answers[-1].content == first.content
        assert answers[0].status_code in (500, 503), "the face that it died of, or the first that found it dead"
        assert {answer.status_code for answer in answers[1:-1]} <= {503}
        assert ready[0].status_code == 503
        assert "the decoder is starting" in ready[0].text
        assert httpx2.get(f"{url}/ready").status_code == 200
        assert first.status_code == 200

"""The real thing: `serve --engine ray` with two replicas of each kind, two of which are killed while frames arrive.

One server for the whole file, since Ray takes its time to start. Replicas are found as grandchildren of its process.
"""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx2
import pytest

from edge_stscq._images import encode_image
from edge_stscq._local_servers import local_token
from edge_stscq.client.sender import Sender, SendReport
from edge_stscq.codec.face_decoder import FaceDecoder
from edge_stscq.server.decoding.catalog import CatalogEntry
from edge_stscq.stream import CodedFace
from tests.server.conftest import local_bearer

pytest.importorskip("ray.serve", reason="Ray is not installed; pip install 'edge-stscq[ray]'")
pytestmark = [
    pytest.mark.slow, pytest.mark.skipif(sys.platform != "linux", reason="replicas are found under /proc")
]  # fmt: skip

MakeFaces = Callable[..., list[CodedFace]]
SERVE = [sys.executable, "-m", "edge_stscq", "serve", "--engine", "ray", "--port", "0"]
START_SECONDS = 400
"""A loaded machine takes minutes to import Ray and torch in six processes."""
FRAMES = 240


def processes() -> dict[int, tuple[int, str]]:
    """Parent and command line of every process."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            status = (folder / "stat").read_text().rpartition(")")[2].split()
            if status[0] != "Z":
                command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                found[int(folder.name)] = int(status[1]), command
        except OSError:
            continue
    return found


def descendants(root: int) -> dict[int, str]:
    everyone, family = processes(), {root}
    while True:
        more = {pid for pid, (parent, _) in everyone.items() if parent in family} - family
        if not more:
            return {pid: everyone[pid][1] for pid in family - {root}}
        family |= more


class Cluster:
    """The server at `url`, started by process `pid`, which keeps its files in `folder`."""

    def __init__(self, url: str, pid: int, folder: Path) -> None:
        self.url, self.pid, self.folder = url, pid, folder

    def replicas(self, name: str) -> list[int]:
        """Process ids of the replicas of a deployment."""
        return [
            pid
            for pid, command in descendants(self.pid).items()
            if re.search(rf"^ray::ServeReplica:.*:{name}\b", command)
        ]

    def kill_one(self, name: str) -> None:
        os.kill(self.replicas(name)[0], signal.SIGKILL)

    def get(self, path: str) -> httpx2.Response:
        """The first answer that is not a request to come again."""
        for _ in range(200):
            answer = httpx2.get(self.url + path, headers=local_bearer(self.url), timeout=60)
            if answer.status_code < 500:
                return answer
            time.sleep(0.2)
        raise AssertionError(f"{path}: {answer.status_code} {answer.text}")

    def faces(self) -> list[str]:
        """The id of every stored face."""
        ids, after = [], 0
        while after is not None:
            page = self.get(f"/v1/faces?limit=100&after={after}").json()
            ids += [face["id"] for face in page["faces"]]
            after = page["next"]
        return ids


@pytest.fixture(scope="module")
def cluster(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Two replicas of each kind on the tiny model; asked to end by SIGTERM, which must leave no process behind."""
    folder = tmp_path_factory.mktemp("ray")
    errors = (folder / "stderr").open("w+")
    process = subprocess.Popen(
        [*SERVE, "--model", tiny_model, "--store", folder / "faces.db", "--ingress-replicas", "2", "--replicas", "2:3"],
        stdout=subprocess.PIPE, stderr=errors, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    started: dict[int, str] = {}
    try:
        assert process.stdout is not None
        address = re.search(r"http://\S+", process.stdout.readline())
        assert address, (folder / "stderr").read_text()
        yield Cluster(address[0], process.pid, folder)
    finally:
        started = descendants(process.pid)
        process.send_signal(signal.SIGTERM)
        try:
            process.communicate(timeout=START_SECONDS)
        except subprocess.TimeoutExpired:
            for pid in [process.pid, *started]:
                os.kill(pid, signal.SIGKILL)
            raise
        finally:
            errors.close()
    assert process.returncode == 0, (folder / "stderr").read_text()
    for _ in range(300):
        left = started.keys() & processes().keys()
        if not left:
            break
        time.sleep(0.1)
    assert not left, [started[pid] for pid in left]


def test_ingress_replicas_agree(cluster: Cluster, entry: CatalogEntry, make_faces: MakeFaces) -> None:
    assert (len(cluster.replicas("ingress")), len(cluster.replicas("decoder"))) == (2, 2)
    with Sender(cluster.url, "first") as sender:
        sender.send_stream(entry.codec.encode_stream(make_faces(3, seed=1)))
    wanted = ["first-0", "first-1", "first-2"]
    logs = [cluster.folder / f"audit.{rank}.jsonl" for rank in range(2)]
    for _ in range(200):
        assert cluster.faces() == wanted
        listed = [sum("GET /v1/faces" in line for line in log.read_text().splitlines()) for log in logs]
        if all(listed):
            break
    assert all(listed), listed
    assert {json.loads(line)["who"] for log in logs for line in log.read_text().splitlines()} == {
        local_token(cluster.url)[6:18]
    }  # fmt: skip


def test_ingress_routes_and_limits(cluster: Cluster, entry: CatalogEntry) -> None:
    model = cluster.get("/v1/models").json()["models"][0]
    assert (model["model_id"], model["precision"]) == (entry.model_id.hex(), "float32")
    assert cluster.get("/ready").json() == {"ok": True, "reason": None, "decoder": "none"}
    assert httpx2.get(f"{cluster.url}/v1/models", timeout=60).status_code == 401
    headers = {"Edge-Device": "cam", "Edge-Sequence": "0", **local_bearer(cluster.url)}
    left = iter(range(1 << 10))
    pieces = (b"S" * 0x10000 for _ in left)
    large = httpx2.post(f"{cluster.url}/v1/frames", headers=headers, content=pieces, timeout=60)
    assert (large.status_code, "1048576 bytes" in large.text) == (413, True)
    assert next(left, None) is not None
    assert httpx2.post(f"{cluster.url}/v1/frames", headers=headers, content=b"x", timeout=60).status_code == 400


def test_replicas_killed_while_receiving(
    cluster: Cluster, entry: CatalogEntry, decoder: FaceDecoder, make_faces: MakeFaces
) -> None:
    faces, kills, seen = make_faces(FRAMES, seed=2), {60: "ingress", 120: "decoder"}, {}

    def meanwhile(report: SendReport) -> None:
        if report.frames in kills:
            cluster.kill_one(kills.pop(report.frames))
        newest = report.frames - 1
        seen[newest] = cluster.get(f"/v1/faces/cam-{newest}.png").content

    with Sender(cluster.url, "cam", batch=4, attempts=30, pause=0.1) as sender:
        report = sender.send_stream(entry.codec.encode_stream(faces), 0, meanwhile)
    assert kills == {}
    assert (report.frames, report.stored + report.duplicate) == (FRAMES, FRAMES)
    stored = [face for face in cluster.faces() if face.startswith("cam-")]
    assert sorted(stored) == sorted(f"cam-{number}" for number in range(FRAMES))
    assert len(seen) == FRAMES // 4
    for number, png in seen.items():
        assert png == encode_image(decoder.decode([faces[number]])[0])
    basic = faces[7].truncate(1, entry.config.layer_ends)
    again = cluster.get("/v1/faces/cam-7.png?layers=1")
    assert (again.headers["edge-layers"], again.content) == ("1", encode_image(decoder.decode([basic])[0]))

"""Metrics: what is counted, and that no sender makes up labels."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

import httpx2
import pytest
from prometheus_client.parser import text_string_to_metric_families

from edge_stscq.server import metrics
from edge_stscq.server.decoding.catalog import CatalogEntry
from edge_stscq.stream import CodedFace

pytestmark = pytest.mark.anyio
Serve = Callable[..., AbstractAsyncContextManager[httpx2.AsyncClient]]
MakeFaces = Callable[..., list[CodedFace]]
Sample = dict[tuple[str, ...], float]


async def scrape(client: httpx2.AsyncClient) -> dict[str, Sample]:
    """Samples by name (without the prefix) and label values."""
    answer = await client.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain; version=")
    samples: dict[str, Sample] = {}
    for family in text_string_to_metric_families(answer.text):
        for sample in family.samples:
            labels = tuple(sample.labels.values())
            samples.setdefault(sample.name.removeprefix("edge_stscq_"), {})[labels] = sample.value
    return samples


async def post(client: httpx2.AsyncClient, body: bytes, first: int = 0, device: str = "cam") -> int:
    headers = {"Edge-Device": device, "Edge-Sequence": str(first)}
    return (await client.post("/v1/frames", content=body, headers=headers)).status_code


async def test_metrics_of_requests(serve: Serve, entry: CatalogEntry, make_faces: MakeFaces) -> None:
    first, second = make_faces(2)
    short = first.truncate(1, entry.config.layer_ends)
    streams = [entry.codec.encode_stream([face]) for face in (short, first, first)]
    async with serve(max_frames=2, max_body_bytes=1000) as client:
        assert [await post(client, stream) for stream in streams] == [200] * 3
        refusals = (
            entry.codec.encode_stream([second]), streams[1][:-1], b"STSQ\1" + bytes(60), b"x" * 2000,
            entry.codec.encode_stream(make_faces(3)),
        )  # fmt: skip
        assert [await post(client, body) for body in refusals] == [409, 400, 409, 413, 413]
        assert (await client.get("/v1/faces/cam-0.png")).status_code == 200
        assert (await client.get("/nowhere/at/all")).status_code == 404
        seen = await scrape(client)
    assert seen["frames_total"] == {("stored",): 1, ("extended",): 1, ("duplicate",): 1}
    assert seen["accepted_bytes_total"] == {(): sum(map(len, streams))}
    assert seen["refused_bodies_total"] == {
        (reason,): 1 for reason in ("number_taken", "damaged", "wrong_model", "too_large", "too_many_frames")
    }
    requests = seen["requests_total"]
    assert (requests["POST", "/v1/frames", "200"], requests["POST", "/v1/frames", "413"]) == (3, 2)
    assert requests["GET", "/v1/faces/{face_id}.png", "200"] == requests["GET", "none", "404"] == 1
    assert seen["decode_batch_faces_sum"][()] == seen["decode_batch_seconds_count"][()] == 1
    assert 0 < seen["decode_batch_seconds_sum"][()] < 60
    assert (seen["stored_faces"][()], seen["devices"][()]) == (1, 1)
    assert seen["stored_bytes"][()] == len(entry.codec.encode_frame(first))
    assert (seen["decode_queue_faces"][()], seen["live_clients"][()]) == (0, 0)


async def test_metrics_device_label_bound(
    serve: Serve, entry: CatalogEntry, make_faces: MakeFaces, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metrics, "MAX_DEVICES", 3)
    body = entry.codec.encode_stream(make_faces(1))
    async with serve() as client:
        for number in range(6):
            assert await post(client, body, device=f"cam-{number}") == 200
        listed = (await client.get("/v1/devices")).json()["devices"]
        seen = await scrape(client)
    assert seen["device_faces"] == {("cam-5",): 1, ("cam-4",): 1, ("cam-3",): 1, ("*",): 3}
    assert seen["device_last_received_seconds"].keys() == seen["device_faces"].keys()
    assert [(one["device"], one["faces"], one["faces_last_hour"]) for one in listed] == [
        (f"cam-{number}", 1, 1) for number in range(6)
    ]
    assert {one["bytes"] for one in listed} == {one["bytes_last_hour"] for one in listed} == {len(body) - 13}


async def test_metrics_hostile_labels(serve: Serve) -> None:
    async with serve() as client:
        before = (await client.get("/metrics")).text.count("\n")
        for number in range(30):
            await client.request(f"MADE{number}", f"/v1/{number}")
            await client.get(f"/v1/faces/made-{number}.png")
            await client.post("/v1/frames", content=b"?", headers={"Edge-Device": f"d{number}", "Edge-Sequence": "0"})
        after = await scrape(client)
    assert sum(map(len, after.values())) - before < 20
    assert after["requests_total"]["other", "none", "404"] == 30
    assert after["refused_bodies_total"] == {("damaged",): 30}


async def test_metrics_per_application(serve: Serve) -> None:
    async with serve() as client:
        await client.get("/health")
        assert (await scrape(client))["requests_total"]["GET", "/health", "200"] == 1
    async with serve() as client:
        assert ("GET", "/health", "200") not in (await scrape(client)).get("requests_total", {})

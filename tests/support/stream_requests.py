"""Requests of wire version 2 to a server under test."""

import httpx2

from edge_stscq.protocol import StreamAcknowledgement

OTHER_KEY = b"another spool key"[:16]


async def post(client: httpx2.AsyncClient, body: bytes, token: str = "-") -> httpx2.Response:
    return await client.post("/v2/frames", content=body, headers={"Authorization": f"Bearer {token}"})


async def acknowledged(client: httpx2.AsyncClient, body: bytes) -> dict[str, object]:
    """Post a file; the counts of the answer, and by number the codes of what it refuses."""
    answer = await post(client, body)
    assert answer.status_code == 200, answer.text
    found = StreamAcknowledgement.model_validate_json(answer.content)
    assert found.count == found.stored + found.extended + found.duplicate + len(found.refused)
    counts = {name: count for name in ("stored", "extended", "duplicate") if (count := getattr(found, name))}
    return counts | {one.number: one.code for one in found.refused}


async def stored(client: httpx2.AsyncClient) -> list[tuple[str, int]]:
    return [(face["id"], face["layers"]) for face in (await client.get("/v1/faces")).json()["faces"]]

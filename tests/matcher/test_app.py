"""The matcher's routes: what they answer, to whom, and what they refuse by one line."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import httpx2
import numpy as np
import pytest
from numpy.typing import NDArray

from edge_stscq.errors import EdgeError
from edge_stscq.matcher.app import create_app
from edge_stscq.matcher.client import MatcherClient
from edge_stscq.matcher.template_source import SourceError, TemplateSource
from edge_stscq.privacy import KeyStore, TemplateMatcher, scheme_named
from edge_stscq.server.auth.audit_log import audit_log
from edge_stscq.server.auth.scope import Scope
from edge_stscq.server.auth.tokens import TokenStore
from tests.matcher.servers import MatcherProcess, listening, made_up_thresholds, make_token, wait_until

Embeddings = NDArray[np.float32]


def test_records_are_enrolled_matched_renewed_and_revoked(
    process: MatcherProcess, embeddings: Embeddings, model_id: bytes
) -> None:
    client = process.client()
    for number, name in enumerate(("anna", "ben")):
        made = client.enroll(name, embeddings[number], model_id)
        assert (made["record"], made["erased"], made["left"]) == (name, [], [])
    found = client.match(embeddings[0], model_id)
    assert [hit["record"] for hit in found["hits"]] == ["anna", "ben"]
    assert {name: found[name] for name in ("scheme", "searched", "without_key", "refused", "complete")} == {
        "scheme": "rotated", "searched": 2, "without_key": 0, "refused": 0, "complete": True
    }  # fmt: skip
    assert len(client.match(embeddings[0], model_id, limit=1)["hits"]) == 1
    (alone,) = client.match(embeddings[1], model_id, record="ben")["hits"]
    assert (alone["record"], alone["device"], alone["captured"], alone["score"] > 0.7) == ("ben", "matcher", None, True)
    assert client.match(embeddings[1], model_id, face=alone["face"])["hits"] == [alone]
    assert client.match(embeddings[1], model_id, device="door-1")["hits"] == []
    assert client.renew("ben", embeddings[2], model_id)["erased"] == [alone["face"]]
    assert client.match(embeddings[1], model_id, record="ben")["hits"][0]["score"] < 0.5
    client.revoke("ben")
    with pytest.raises(EdgeError, match=r"record 'ben' has no key: .* enroll it again \(400\)"):
        client.match(embeddings[1], model_id, record="ben")
    assert [hit["record"] for hit in client.match(embeddings[2], model_id)["hits"]] == ["anna"]


def test_faces_of_cameras_are_followed(
    process: MatcherProcess, source: TemplateSource, keys: KeyStore, embeddings: Embeddings, model_id: bytes
) -> None:
    with TemplateSource(source.url, "door-1", token=source._token) as camera:
        face = camera.send(scheme_named("rotated").enroll(embeddings[0], keys.issue("door-1-42")), model_id)
    client = process.client()
    wait_until(lambda: client.match(embeddings[0], model_id)["hits"])
    (hit,) = client.match(embeddings[0], model_id, device="door-1")["hits"]
    assert (hit["face"], hit["record"], hit["device"]) == (face, "door-1-42", "door-1")
    keys.revoke("door-1-42")  # by a command on this machine
    wait_until(lambda: client.match(embeddings[0], model_id)["without_key"] == 1)
    assert client.match(embeddings[0], model_id)["hits"] == []


def test_hits_are_judged_by_the_thresholds_of_their_scheme_and_model(
    process: MatcherProcess, matcher: TemplateMatcher, source: TemplateSource, embeddings: Embeddings, model_id: bytes,
    tmp_path: Path,
) -> None:  # fmt: skip
    client = process.client()
    client.enroll("anna", embeddings[0], model_id)
    judged = set()
    for share in np.linspace(0, 3, 13):  # of a stranger in the face that is matched
        mixed = embeddings[0] + share * embeddings[1]
        (hit,) = client.match(mixed / np.linalg.norm(mixed), model_id)["hits"]
        wanted = ("same person", 1e-4) if hit["score"] > 0.7 else ("perhaps", 1e-3)
        assert (hit["verdict"], hit["false_match_rate"]) == (wanted if hit["score"] > 0.5 else ("nobody here", None))
        judged.add(hit["verdict"])
    assert judged == {"same person", "perhaps", "nobody here"}, "the more of a stranger, the less"
    tokens = tmp_path / "others.db"
    other = create_app(matcher, source, TokenStore(tokens, create=True), thresholds=made_up_thresholds(bytes(8)))
    with listening(other) as url:
        asked = MatcherClient(url, token=make_token(tokens, Scope.MATCH)).match(embeddings[0], model_id)
    assert [(hit["verdict"], hit["false_match_rate"]) for hit in asked["hits"]] == [(None, None)], "of another model"
    with pytest.raises(EdgeError, match="no thresholds were measured for templates of scheme rotated, but for polypr"):
        create_app(
            matcher, source, TokenStore(tokens, create=True), thresholds=made_up_thresholds(model_id, "polyprotect")
        )


SCOPES = {"match": Scope.MATCH, "enroll": Scope.EDIT, "renew": Scope.EDIT, "revoke": Scope.DELETE}


@pytest.fixture
def http(process: MatcherProcess) -> Iterator[httpx2.Client]:
    """One client for all requests: each reads the authorities that this machine trusts."""
    with httpx2.Client(base_url=process.url) as client:
        yield client


def test_routes_need_their_scope(
    process: MatcherProcess, http: httpx2.Client, embeddings: Embeddings, model_id: bytes
) -> None:
    body = {"embedding": embeddings[0].tolist(), "model_id": model_id.hex(), "record": "anna"}
    bodies = {"match": body, "enroll": body, "renew": body, "revoke": {"record": "anna"}}
    tokens = {scope: make_token(process.tokens, scope) for scope in Scope}
    for route in ("enroll", "match", "renew", "revoke"):
        path = f"/v1/{route}"
        for given in ("", "Bearer", "Bearer nonsense", f"Basic {tokens[SCOPES[route]]}"):
            answer = http.post(path, json=bodies[route], headers={"Authorization": given} if given else {})
            assert (answer.status_code, "a valid bearer token" in answer.json()["error"]) == (401, True)
        for scope in [*(one for one in Scope if one != SCOPES[route]), SCOPES[route]]:
            answer = http.post(path, json=bodies[route], headers={"Authorization": f"Bearer {tokens[scope]}"})
            assert answer.status_code == (200 if scope == SCOPES[route] else 403), answer.text
    for path in ("/docs", "/openapi.json", "/v1/faces", "/metrics"):
        assert http.get(path).status_code == 404


def test_token_of_a_device_matches_its_faces_alone(
    process: MatcherProcess, source: TemplateSource, keys: KeyStore, embeddings: Embeddings, model_id: bytes
) -> None:
    process.client().enroll("anna", embeddings[0], model_id)
    with TemplateSource(source.url, "door-1", token=source._token) as camera:
        camera.send(scheme_named("rotated").enroll(embeddings[0], keys.issue("door-1-42")), model_id)
    wait_until(lambda: len(process.client().match(embeddings[0], model_id)["hits"]) == 2)
    door = process.client(device="door-1")
    assert [hit["record"] for hit in door.match(embeddings[0], model_id)["hits"]] == ["door-1-42"]
    assert door.match(embeddings[0], model_id, record="door-1-42")["hits"]
    for call in (
        lambda: door.match(embeddings[0], model_id, record="anna"),
        lambda: door.match(embeddings[0], model_id, device="matcher"),
        lambda: door.enroll("ben", embeddings[1], model_id),
        lambda: door.renew("anna", embeddings[1], model_id),
        lambda: door.revoke("anna"),
    ):
        with pytest.raises(EdgeError, match=r"this token is of device door-1 and not of matcher \(403\)"):
            call()
    assert process.client().match(embeddings[0], model_id, record="anna")["hits"][0]["score"] > 0.7


def bodies(embedding: list[float], model: str) -> dict[str, tuple[object, str]]:
    good = {"embedding": embedding, "model_id": model}
    return {
        "nothing": (b"", "the body: invalid json"),
        "no JSON": (b"\xff\xfe", "the body: invalid json"),
        "deep": (b"[" * 10_000, "the body: invalid json"),
        "a list": ([good], "the body: input should be an object"),
        "no model": ({"embedding": embedding}, "model_id: field required"),
        "a short one": (good | {"embedding": embedding[:127]}, "embedding: list should have at least 128 items"),
        "a long one": (good | {"embedding": [*embedding, 0.0]}, "embedding: list should have at most 128 items"),
        "texts": (good | {"embedding": ["x"] * 128}, "embedding.0: input should be a valid number"),
        "no unit": (good | {"embedding": [2 * one for one in embedding]}, "no unit embedding of 128 numbers"),
        "zeros": (good | {"embedding": [0.0] * 128}, "no unit embedding of 128 numbers"),
        "no numbers": (good | {"embedding": [float("nan")] * 128}, "embedding.0: input should be"),
        "beyond all": (good | {"embedding": [1e300] * 128}, "embedding.0: input should be less than or equal to 1.01"),
        "another model": (good | {"model_id": "00" * 8}, "which do not compare; take an embedding of their model"),
        "no model id": (good | {"model_id": "../.."}, "model_id: string should match pattern"),
        "an unknown word": (good | {"tokens": [1]}, "tokens: extra inputs are not permitted"),
        "two to match with": (good | {"record": "anna", "face": "door-1"}, "name one of them"),
        "nobody": (good | {"record": "nobody"}, "record 'nobody' has no key"),
        "half a character": (good | {"record": "\ud800"}, ""),
        "a token face": (good | {"face": "door-7"}, "a face with tokens, which compares with no template"),
        "a path": (good | {"face": "../../etc/passwd"}, "face: string should match pattern"),
        "no limit": (good | {"limit": 0}, "limit: input should be greater than or equal to 1"),
        "too many": (good | {"limit": 101}, "limit: input should be less than or equal to 100"),
    }


def test_bodies_that_cannot_be_are_refused_by_one_line(
    process: MatcherProcess, http: httpx2.Client, keys: KeyStore, embeddings: Embeddings, model_id: bytes
) -> None:
    process.client().enroll("anna", embeddings[0], model_id)
    headers = {"Authorization": f"Bearer {make_token(process.tokens, Scope.MATCH)}"}
    for name, (body, line) in bodies(embeddings[0].tolist(), model_id.hex()).items():
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        answer = http.post("/v1/match", content=content, headers=headers)
        assert answer.status_code == 400, (name, answer.text)
        told = answer.json()["error"]
        assert line in told, (name, told)
        assert "\n" not in told, name
        assert str(embeddings[0][0])[:8] not in told, "an embedding is a face, and in no message"
    large = json.dumps({"embedding": [0.0], "model_id": "x" * (16 << 10)}).encode()
    answer = http.post("/v1/match", content=large, headers=headers)
    assert (answer.status_code, answer.json()["error"]) == (413, "the body is over 16384 bytes; send less in a request")
    foreign = {**headers, "Sec-Fetch-Site": "cross-site"}
    assert http.post("/v1/match", content=b"", headers=foreign).status_code == 403
    assert keys.keys().keys() == {"anna"}


def test_nothing_is_matched_while_keys_cannot_be_read(
    process: MatcherProcess, http: httpx2.Client, keys: KeyStore, embeddings: Embeddings, model_id: bytes
) -> None:
    client = process.client()
    client.enroll("anna", embeddings[0], model_id)
    keys.path.chmod(0o644)
    os.utime(keys.path)
    wait_until(lambda: http.get("/ready").status_code == 503)
    assert "others can read or write the key file" in http.get("/ready").json()["reason"]
    for how in ({}, {"record": "anna"}):
        with pytest.raises(EdgeError, match=r"nothing is matched: others can read or write the key file .* \(503\)"):
            client.match(embeddings[0], model_id, **how)
    for change in (
        lambda: client.enroll("ben", embeddings[1], model_id), lambda: client.renew("anna", embeddings[1], model_id),
        lambda: client.revoke("anna"),
    ):  # fmt: skip
        with pytest.raises(EdgeError, match="others can read or write the key file"):
            change()
    keys.path.chmod(0o600)
    wait_until(lambda: http.get("/ready").status_code == 200)
    assert client.match(embeddings[0], model_id)["hits"][0]["record"] == "anna"
    assert keys.keys().keys() == {"anna"}


def test_audit_log_names_faces_and_no_record_or_embedding(
    process: MatcherProcess, embeddings: Embeddings, model_id: bytes, tmp_path: Path
) -> None:
    log, client = tmp_path / "audit.jsonl", process.client()
    with audit_log(log):
        face = client.enroll("anna the secret agent", embeddings[0], model_id)["face"]
        client.match(embeddings[0], model_id)
        client.revoke("anna the secret agent")
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    ours = [line for line in lines if line["what"] in ("POST /v1/enroll", "POST /v1/match", "POST /v1/revoke")]
    stream = face.rpartition("-")[0]
    assert [line["faces"] for line in ours] == [{stream: "0"}] * 3
    assert "agent" not in log.read_text()
    assert str(float(embeddings[0][0])) not in log.read_text()


def test_server_that_is_away_is_no_fault_of_the_caller(
    process: MatcherProcess, embeddings: Embeddings, model_id: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(self: TemplateSource, template: bytes, model: bytes) -> str:
        raise SourceError("http://edge cannot be reached")

    monkeypatch.setattr(TemplateSource, "send", away)
    with pytest.raises(EdgeError, match=r"http://edge cannot be reached \(502\)"):
        process.client().enroll("anna", embeddings[0], model_id)


def test_client_names_what_does_not_answer_as_a_matcher(embeddings: Embeddings, model_id: bytes) -> None:
    with pytest.raises(EdgeError, match=r"no matcher answers at http://127.0.0.1:9 .* edge-stscq matcher serve"):
        MatcherClient("http://127.0.0.1:9", token="t").match(embeddings[0], model_id)
    for status, content in ((200, b"<html>"), (200, b"[]"), (404, b"{}"), (500, b"")):
        transport = httpx2.MockTransport(lambda request, s=status, c=content: httpx2.Response(s, content=c))
        client = MatcherClient("http://edge.test", token="t", transport=transport)
        with pytest.raises(EdgeError, match=rf"does not answer as a matcher; check --url \({status}\)"):
            client.match(embeddings[0], model_id)

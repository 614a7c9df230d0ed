"""Records: a change is whole or not at all, whatever fails on its way."""

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_stscq.errors import EdgeError
from edge_stscq.matcher.records import Records
from edge_stscq.matcher.template_source import SourceError, TemplateSource
from edge_stscq.privacy import KeyRing, KeyStore, TemplateMatcher, scheme_named
from edge_stscq.server.auth.scope import Scope
from tests.matcher.servers import FaceServer, make_token

Embeddings = NDArray[np.float32]


@pytest.fixture
def records(matcher: TemplateMatcher, source: TemplateSource) -> Records:
    return Records(matcher, source)


def stored(server: FaceServer) -> list[str]:
    return [face["id"] for face in server.ask("GET", "/v1/faces").json()["faces"]]


def test_record_is_enrolled_renewed_and_revoked(
    records: Records, matcher: TemplateMatcher, server: FaceServer, keys: KeyStore, embeddings: Embeddings,
    model_id: bytes,
) -> None:  # fmt: skip
    first = records.enroll("anna", embeddings[0], model_id)
    assert (stored(server), first.erased, first.left) == ([first.face], [], [])
    assert matcher.verify("anna", embeddings[0], model_id).score > 0.7
    second = records.renew("anna", embeddings[1], model_id)
    assert (stored(server), second.erased, second.left) == ([second.face], [first.face], [])
    assert matcher.verify("anna", embeddings[1], model_id).score > 0.7
    assert matcher.verify("anna", embeddings[0], model_id).score < 0.5
    gone = records.revoke("anna")
    assert (gone, stored(server), "anna" in keys, len(matcher)) == ((None, [second.face], []), [], False, 0)


def test_refused_enrollment_writes_nothing(
    records: Records, server: FaceServer, keys: KeyStore, embeddings: Embeddings, model_id: bytes
) -> None:
    records.enroll("anna", embeddings[0], model_id)
    before = stored(server)
    for record, embedding, model, line in (
        ("anna", embeddings[0], model_id, "record 'anna' has a key already; renew or revoke it"),
        ("x" * 201, embeddings[0], model_id, "a record's name has 1 to 200 characters"),
        ("a\nb", embeddings[0], model_id, "all of them printable"),
        ("ben", embeddings[0] * 2, model_id, "no unit embedding"),
        ("ben", embeddings[0], bytes(8), "refused the template: model 0000000000000000 is not held here"),
    ):
        with pytest.raises(EdgeError, match=line):
            records.enroll(record, embedding, model)
    with pytest.raises(EdgeError, match="record 'ben' has no key"):
        records.renew("ben", embeddings[0], model_id)
    with pytest.raises(EdgeError, match="no unit embedding"):
        records.renew("anna", embeddings[0] * 2, model_id)
    assert (stored(server), keys.keys().keys()) == (before, {"anna"})


def test_record_keeps_its_key_while_the_server_takes_no_template(
    matcher: TemplateMatcher, keys: KeyStore, embeddings: Embeddings, model_id: bytes
) -> None:
    key = keys.issue("anna")
    with TemplateSource("http://127.0.0.1:9", token="t") as nowhere:
        records = Records(matcher, nowhere)
        for change, record in ((records.enroll, "ben"), (records.renew, "anna")):
            with pytest.raises(SourceError, match="gave up after 2 tries"):
                change(record, embeddings[0], model_id)
    assert {record: one.id for record, one in keys.keys().items()} == {"anna": key.id}


def test_template_is_erased_whose_key_could_not_be_written(
    records: Records, server: FaceServer, keys: KeyStore, embeddings: Embeddings, model_id: bytes,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Another process was faster with a record of this name."""
    send = TemplateSource.send

    def slow(self: TemplateSource, template: bytes, model: bytes) -> str:
        KeyStore(keys.path, b"s" * 32).issue("anna")
        return send(self, template, model)

    monkeypatch.setattr(TemplateSource, "send", slow)
    with pytest.raises(EdgeError, match="record 'anna' has a key already"):
        records.enroll("anna", embeddings[0], model_id)
    assert stored(server) == []


def test_revoked_record_says_what_could_not_be_erased(
    server: FaceServer, matcher: TemplateMatcher, keys: KeyStore, embeddings: Embeddings, model_id: bytes
) -> None:
    token = make_token(server.folder / "tokens.db", Scope.SEND)
    with server.running() as url, TemplateSource(url, token=token) as source:
        records = Records(matcher, source)
        face = records.enroll("anna", embeddings[0], model_id).face
        renewed = records.renew("anna", embeddings[0], model_id)
        assert (renewed.erased, renewed.left) == ([], [face])
        assert [hit.face for hit in matcher.match(embeddings[0], model_id)] == [renewed.face]
        gone = records.revoke("anna")
        assert (gone.erased, gone.left) == ([], [renewed.face])
        assert stored(server) == [face, renewed.face]
    assert (len(matcher), len(keys)) == (0, 0)
    with pytest.raises(EdgeError, match="its record was renewed or revoked"):
        matcher.verify_face(face, embeddings[0], model_id)


def test_records_of_cameras_are_revoked_in_their_own_key_store(
    source: TemplateSource, keys: KeyStore, embeddings: Embeddings, model_id: bytes, tmp_path
) -> None:
    camera = KeyStore.create(tmp_path / "door.keys", b"t" * 32)
    matcher = TemplateMatcher(scheme_named("rotated"), KeyRing([keys, camera]))
    source.send(scheme_named("rotated").enroll(embeddings[0], camera.issue("door-1-42")), model_id)
    records = Records(matcher, source)
    with pytest.raises(EdgeError, match="record 'door-1-42' has a key already"):
        records.enroll("door-1-42", embeddings[0], model_id)
    records.revoke("door-1-42")
    assert len(camera) == 0

"""Follower: what comes and goes at the server comes and goes in memory, also where an older store was restored."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_stscq.errors import EdgeError
from edge_stscq.matcher import template_source
from edge_stscq.matcher.follower import SWEEP_SECONDS, Follower
from edge_stscq.matcher.template_source import TemplateSource
from edge_stscq.privacy import KeyStore, TemplateMatcher, scheme_named
from edge_stscq.server.maintenance.backup import backup_store, restore_store
from tests.matcher.servers import FaceServer

Embeddings = NDArray[np.float32]


def send(source: TemplateSource, keys: KeyStore, record: str, embedding: Embeddings, model_id: bytes) -> str:
    return source.send(scheme_named("rotated").enroll(embedding, keys.issue(record)), model_id)


def follow(follower: Follower) -> int:
    """Take steps until there is nothing more; how many."""
    steps = 1
    while follower.step():
        steps += 1
    return steps


def test_follower_takes_in_pages_to_the_end(
    source: TemplateSource, matcher: TemplateMatcher, keys: KeyStore, embeddings: Embeddings, model_id: bytes,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(template_source, "PAGE", 2)
    faces = [send(source, keys, f"record {number}", one, model_id) for number, one in enumerate(embeddings)]
    follower = Follower(source, matcher)
    assert (follower.complete, follower.reason) == (False, "templates are taken in, 0 so far")
    assert follow(follower) == 5, "the last page is empty, since the one before was full"
    assert (follower.complete, follower.reason, len(matcher)) == (True, None, 8)
    source.erase(faces[3])
    late = send(source, keys, "late", embeddings[0], model_id)
    assert follow(follower) == 2
    assert matcher.faces() == {*faces, late} - {faces[3]}


def test_follower_goes_on_while_the_server_is_away(
    server: FaceServer, matcher: TemplateMatcher, keys: KeyStore, embeddings: Embeddings, model_id: bytes
) -> None:
    with server.running() as url, TemplateSource(url, token=server.token) as source:
        send(source, keys, "a", embeddings[0], model_id)
        follower = Follower(source, matcher)
        follow(follower)
    with TemplateSource(server.url, token=server.token) as source:
        follower = Follower(source, matcher)
        assert follower.step() is False
        assert follower.complete is False
        assert "cannot be reached" in str(follower.reason)
        assert matcher.match(embeddings[0], model_id)[0].record == "a", "what is in memory is matched"
        with server.running():
            follow(follower)
        assert follower.reason is None


def test_follower_forgets_what_an_older_store_does_not_have(
    server: FaceServer, matcher: TemplateMatcher, keys: KeyStore, embeddings: Embeddings, model_id: bytes,
    tmp_path: Path,
) -> None:  # fmt: skip
    """Faces erased since stay away; faces that came since are gone, and their rows with them."""
    with server.running() as url, TemplateSource(url, token=server.token) as source:
        follower = Follower(source, matcher)
        old, erased = (send(source, keys, name, embeddings[0], model_id) for name in ("old", "erased"))
        backup_store(server.store, tmp_path / "backup.db")
        late = send(source, keys, "late", embeddings[1], model_id)
        source.erase(erased)
        follow(follower)
        assert matcher.faces() == {old, late}
    with TemplateSource(server.url, token=server.token) as source:
        follower._source = source
        follower.step()
        assert follower.failure is not None
        restored = restore_store(tmp_path / "backup.db", server.store)
        assert (restored.faces, restored.erased) == (1, 1)
        with server.running():
            follow(follower)
        assert matcher.faces() == {old}
        assert [hit.record for hit in matcher.match(embeddings[1], model_id)] == ["old"]


def test_follower_asks_for_all_again_now_and_then(
    source: TemplateSource, matcher: TemplateMatcher, keys: KeyStore, embeddings: Embeddings, model_id: bytes
) -> None:
    """A server that was away between two looks may have another store."""
    now = 0.0
    follower = Follower(source, matcher, clock=lambda: now)
    face = send(source, keys, "a", embeddings[0], model_id)
    follow(follower)
    matcher.put([matcher._held[face]._replace(face="ghost-0")])
    follow(follower)
    assert matcher.faces() == {face, "ghost-0"}
    now = SWEEP_SECONDS
    follow(follower)
    assert matcher.faces() == {face}


def test_templates_whose_keys_a_backup_does_not_have_are_not_matched(
    source: TemplateSource, matcher: TemplateMatcher, keys: KeyStore, embeddings: Embeddings, model_id: bytes,
    tmp_path: Path,
) -> None:  # fmt: skip
    """An older copy of the key store comes back: what was enrolled since cannot be matched, and says so."""
    send(source, keys, "old", embeddings[0], model_id)
    backup = keys.path.read_bytes()
    late = send(source, keys, "late", embeddings[1], model_id)
    follower = Follower(source, matcher)
    follow(follower)
    assert matcher.match(embeddings[1], model_id)[0].record == "late"
    keys.path.write_bytes(backup)
    follow(follower)
    assert [hit.record for hit in matcher.match(embeddings[1], model_id)] == ["old"]
    assert matcher.unmatched == {"without key": 1}
    with pytest.raises(EdgeError, match="which no key store here has: .* or a backup came without its keys"):
        matcher.verify_face(late, embeddings[1], model_id)


def test_follower_says_that_keys_cannot_be_read(
    source: TemplateSource, matcher: TemplateMatcher, keys: KeyStore
) -> None:
    follower = Follower(source, matcher)
    keys.path.chmod(0o644)
    follow(follower)
    assert "others can read or write the key file" in str(follower.keys_failure)
    assert follower.reason == follower.keys_failure
    keys.path.chmod(0o600)
    follow(follower)
    assert (follower.keys_failure, follower.reason) == (None, None)

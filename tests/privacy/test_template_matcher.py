"""Many templates with their keys: found 1 to N and 1 to 1, and refused by one line where they cannot be."""

import re
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_stscq.errors import EdgeError
from edge_stscq.privacy import SCHEMES, FaceTemplate, KeyRing, KeyStore, TemplateMatcher, scheme_named

SECRET, MODEL, OTHER_MODEL = b"s" * 32, b"model--1", b"model--2"
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
Embeddings = NDArray[np.float32]


@pytest.fixture
def keys(tmp_path: Path) -> KeyStore:
    return KeyStore.create(tmp_path / "matcher.keys", SECRET)


@pytest.fixture
def matcher(keys: KeyStore) -> TemplateMatcher:
    return TemplateMatcher(scheme_named("rotated"), KeyRing([keys]))


def enrolled(keys: KeyStore, embedding: Embeddings, record: str, device: str = "door-1") -> FaceTemplate:
    template = scheme_named("rotated").enroll(embedding, keys.issue(record))
    return FaceTemplate(f"face-{record}-0", template, MODEL, device, NOON)


@pytest.mark.parametrize("scheme", SCHEMES, ids=lambda scheme: scheme.name)
def test_match_finds_the_face_among_others(keys: KeyStore, embeddings: Embeddings, scheme) -> None:
    matcher = TemplateMatcher(scheme, KeyRing([keys]))
    issued = keys.issue_all([f"record {number}" for number in range(len(embeddings))])
    matcher.refresh()
    matcher.put(
        FaceTemplate(f"door-{number}", scheme.enroll(embedding, key), MODEL)
        for number, (embedding, key) in enumerate(zip(embeddings, issued.values(), strict=True))
    )
    assert len(matcher) == 40
    for number in (0, 7, 39):
        hits = matcher.match(embeddings[number], MODEL, limit=3)
        assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
        assert (len(hits), hits[0].face, hits[0].record) == (3, f"door-{number}", f"record {number}")
        verified = matcher.verify(f"record {number}", embeddings[number], MODEL)
        assert verified.face == f"door-{number}"
        assert verified.score == pytest.approx(hits[0].score, abs=1e-5)
        assert matcher.verify_face(f"door-{number}", embeddings[number], MODEL) == verified
    assert len(matcher.match(embeddings[0], MODEL, limit=100)) == 40


def test_match_of_one_device(matcher: TemplateMatcher, keys: KeyStore, embeddings: Embeddings) -> None:
    matcher.put([enrolled(keys, embeddings[0], "a", "door-1"), enrolled(keys, embeddings[0], "b", "door-2")])
    matcher.refresh()
    for device, records in (("door-1", ["a"]), ("door-2", ["b"]), ("door-3", []), (None, ["a", "b"])):
        hits = matcher.match(embeddings[0], MODEL, device=device)
        assert sorted(hit.record for hit in hits) == records
        assert {hit.captured for hit in hits} <= {NOON}


def test_templates_wait_for_their_keys(matcher: TemplateMatcher, keys: KeyStore, embeddings: Embeddings) -> None:
    one = enrolled(keys, embeddings[0], "a")
    matcher.put([one])
    assert (len(matcher), matcher.unmatched) == (0, {"without key": 1})
    assert matcher.match(embeddings[0], MODEL) == []
    matcher.refresh()
    assert (len(matcher), matcher.unmatched) == (1, {})
    assert matcher.match(embeddings[0], MODEL)[0].score > 0.7
    matcher.put([one])
    assert (len(matcher), matcher.faces()) == (1, {one.face})


def test_revoked_and_renewed_records_are_matched_no_more(
    matcher: TemplateMatcher, keys: KeyStore, embeddings: Embeddings
) -> None:
    old, other = enrolled(keys, embeddings[0], "a"), enrolled(keys, embeddings[1], "b")
    matcher.refresh()
    matcher.put([old, other])
    keys.renew("a")
    matcher.refresh()
    assert [hit.record for hit in matcher.match(embeddings[0], MODEL)] == ["b"]
    with pytest.raises(EdgeError, match=r"which no key store here has: its record was renewed or revoked, or a backup"):
        matcher.verify_face(old.face, embeddings[0], MODEL)
    with pytest.raises(EdgeError, match="record 'a' has a key and no template: .*; renew the record"):
        matcher.verify("a", embeddings[0], MODEL)
    keys.revoke("b")
    matcher.refresh()
    assert (len(matcher), matcher.unmatched) == (0, {"without key": 2})
    with pytest.raises(EdgeError, match="record 'b' has no key: it was never enrolled, or it was revoked"):
        matcher.verify("b", embeddings[1], MODEL)


def test_newest_template_of_a_record_counts(matcher: TemplateMatcher, keys: KeyStore, embeddings: Embeddings) -> None:
    key, scheme = keys.issue("a"), scheme_named("rotated")
    matcher.refresh()
    for number in (0, 1):
        matcher.put([FaceTemplate(f"door-{number}", scheme.enroll(embeddings[number], key), MODEL)])
    assert matcher.of_record("a") == ["door-0", "door-1"]
    assert matcher.verify("a", embeddings[1], MODEL).score > 0.7
    matcher.remove(["door-1", "nothing-9"])
    assert matcher.verify("a", embeddings[1], MODEL).score < 0.5


def damaged(template: bytes, at: int) -> bytes:
    return template[:at] + bytes([template[at] ^ 1]) + template[at + 1 :]


def test_templates_that_cannot_be_matched_are_counted_and_named(
    matcher: TemplateMatcher, keys: KeyStore, embeddings: Embeddings
) -> None:
    """Of another scheme, changed in the store, cut off, moved under another key, of no scheme at all."""
    good = scheme_named("rotated").enroll(embeddings[0], keys.issue("good"))
    foreign = scheme_named("polyprotect").enroll(embeddings[0], keys.issue("foreign"))
    moved = good[:1] + keys.issue("thief").id + good[9:]
    cases = {
        "foreign-0": (foreign, "the template is of scheme polyprotect, not rotated; enroll the face again"),
        "tag-0": (damaged(good, 63), "was changed since it was made: its tag differs"),
        "content-0": (damaged(good, 20), "was changed since it was made: its tag differs"),
        "moved-0": (moved, "was changed since it was made: its tag differs"),
        "short-0": (good[:40], "a template of rotated has 64 bytes, not 40: it is cut off or damaged"),
        "stub-0": (good[:12], "a template of 12 bytes is cut off; fetch it again"),
        "empty-0": (b"", "a template of 0 bytes is cut off; fetch it again"),
        "none-0": (b"\xff" + good[1:], "the template is of scheme number 255, not rotated"),
    }
    matcher.refresh()
    matcher.put(FaceTemplate(face, template, MODEL) for face, (template, _) in cases.items())
    assert (len(matcher), matcher.unmatched) == (0, {"refused": 8})
    for face, (_, reason) in cases.items():
        with pytest.raises(EdgeError, match=re.escape(reason)):
            matcher.verify_face(face, embeddings[0], MODEL)
    matcher.put([FaceTemplate("tag-0", good, MODEL)])
    assert (len(matcher), matcher.unmatched) == (1, {"refused": 7})
    matcher.remove(cases)
    assert (len(matcher), matcher.unmatched, matcher.faces()) == (0, {}, set())


def test_no_change_of_a_template_is_matched(
    matcher: TemplateMatcher, keys: KeyStore, embeddings: Embeddings
) -> None:
    """Whatever who can write the store makes of one: every bit flipped, cut anywhere, longer, or at random."""
    good = scheme_named("rotated").enroll(embeddings[0], keys.issue("a"))
    draw = np.random.default_rng(7)
    changed = [good[:at] + bytes([good[at] ^ 1 << bit]) + good[at + 1 :] for at in range(64) for bit in range(8)]
    changed += [good[:size] for size in range(64)] + [good + bytes(size) for size in (1, 64, 448)]
    changed += [draw.bytes(int(size)) for size in draw.integers(0, 513, 500)]
    changed += [good[:9] + draw.bytes(55) for _ in range(500)]
    matcher.refresh()
    matcher.put(FaceTemplate(f"door-{number}", template, MODEL) for number, template in enumerate(changed))
    assert (len(matcher), sum(matcher.unmatched.values())) == (0, len(changed))
    assert matcher.match(embeddings[0], MODEL) == []
    for number in range(len(changed)):
        with pytest.raises(EdgeError):
            matcher.verify_face(f"door-{number}", embeddings[0], MODEL)


def test_mixed_comparisons_are_refused(matcher: TemplateMatcher, keys: KeyStore, embeddings: Embeddings) -> None:
    matcher.put([enrolled(keys, embeddings[0], "a")])
    matcher.refresh()
    with pytest.raises(EdgeError, match=f"all templates here are of {MODEL.hex()}, which do not compare"):
        matcher.match(embeddings[0], OTHER_MODEL)
    for verify, name in ((matcher.verify, "a"), (matcher.verify_face, "face-a-0")):
        with pytest.raises(EdgeError, match=f"is of model {MODEL.hex()} and the embedding of {OTHER_MODEL.hex()}"):
            verify(name, embeddings[0], OTHER_MODEL)
    with pytest.raises(EdgeError, match="a face with tokens, which compares with no template but by its embedding"):
        matcher.verify_face("door-7", embeddings[0], MODEL)
    for wrong in (embeddings[0] * 2, embeddings[0][:64], np.full(128, np.nan, np.float32), np.zeros(128, np.float32)):
        for ask, name in ((matcher.match, ()), (matcher.verify, ("a",)), (matcher.verify_face, ("face-a-0",))):
            with pytest.raises(EdgeError, match="no unit embedding of 128 numbers"):
                ask(*name, wrong, MODEL)


def test_an_empty_matcher_finds_nobody(matcher: TemplateMatcher, embeddings: Embeddings) -> None:
    assert matcher.match(embeddings[0], MODEL) == []
    assert matcher.memory == 0


def test_a_replaced_template_leaves_no_row(matcher: TemplateMatcher, keys: KeyStore, embeddings: Embeddings) -> None:
    """Also where it comes under another model: one face, one row."""
    one = enrolled(keys, embeddings[0], "a")
    matcher.refresh()
    matcher.put([one])
    matcher.put([one._replace(model_id=OTHER_MODEL)])
    assert len(matcher) == 1
    assert matcher.match(embeddings[0], OTHER_MODEL)[0].record == "a"
    assert matcher.memory > 0

"""Every scheme: templates match their own embedding under their own key, and whatever else comes is refused."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_stscq.errors import EdgeError
from edge_stscq.privacy import SCHEMES, PolyProtect, RecordKey, Scheme, scheme_named, scheme_of
from edge_stscq.privacy.keys import TAG_BYTES
from edge_stscq.stream.envelope import MAX_PAYLOAD

Key = Callable[..., RecordKey]
Embeddings = NDArray[np.float32]
ALL = pytest.mark.parametrize("scheme", [*SCHEMES, PolyProtect(0)], ids=lambda scheme: str(scheme.template_bytes))


@ALL
def test_match_is_higher_for_the_enrolled_than_for_strangers(
    scheme: Scheme[Any], embeddings: Embeddings, key: Key
) -> None:
    template = scheme.enroll(embeddings[0], key("a"))
    own, *others = (scheme.match(template, embedding, key("a")) for embedding in embeddings)
    assert own > max(others)


@ALL
def test_template_has_its_stated_size_and_names_scheme_and_key(
    scheme: Scheme[Any], embeddings: Embeddings, key: Key
) -> None:
    template = scheme.enroll(embeddings[0], key("a"))
    assert len(template) == scheme.template_bytes <= MAX_PAYLOAD
    assert template[:9] == bytes([scheme.number]) + key("a").id
    assert scheme_of(template).name == scheme.name


def test_template_of_rotated_groups_has_64_bytes() -> None:
    assert scheme_named("rotated").template_bytes == 64


@ALL
def test_template_changed_in_any_byte_is_refused(scheme: Scheme[Any], embeddings: Embeddings, key: Key) -> None:
    template = scheme.enroll(embeddings[0], key("a"))
    for place in (*range(9, len(template), 7), len(template) - 1):
        changed = template[:place] + bytes([template[place] ^ 1]) + template[place + 1 :]
        with pytest.raises(EdgeError, match="changed since it was made: its tag differs|holds numbers that are none"):
            scheme.match(changed, embeddings[0], key("a"))


@ALL
def test_content_and_tag_of_another_record_are_refused(scheme: Scheme[Any], embeddings: Embeddings, key: Key) -> None:
    own, other = (scheme.enroll(embeddings[i], key(name)) for i, name in ((0, "a"), (1, "b")))
    with pytest.raises(EdgeError, match="changed since it was made: its tag differs|holds numbers that are none"):
        scheme.gallery([own[:9] + other[9:]], [key("a")])


@ALL
def test_enrolling_again_gives_the_same_bytes_and_a_fresh_key_others(
    scheme: Scheme[Any], embeddings: Embeddings, key: Key
) -> None:
    first, again, renewed = (scheme.enroll(embeddings[0], key(name)) for name in ("a", "a", "b"))
    assert first == again
    assert np.mean([one == other for one, other in zip(first[9:], renewed[9:], strict=True)]) < 0.5


@ALL
def test_gallery_gives_the_scores_of_match(scheme: Scheme[Any], embeddings: Embeddings, key: Key) -> None:
    keys = [key(number) for number in range(5)]
    templates = [scheme.enroll(*pair) for pair in zip(embeddings[:5], keys, strict=True)]
    found = scheme.gallery(templates, keys).scores(embeddings[2])
    alone = [scheme.match(template, embeddings[2], each) for template, each in zip(templates, keys, strict=True)]
    np.testing.assert_allclose(found, alone, atol=1e-5)
    assert found.argmax() == 2
    assert len(scheme.gallery([], []).scores(embeddings[0])) == 0


@ALL
def test_templates_of_one_key_compare_and_of_two_are_refused(
    scheme: Scheme[Any], embeddings: Embeddings, key: Key
) -> None:
    one, near, far = (scheme.enroll(embeddings[i], key("a")) for i in (0, 0, 1))
    assert scheme.compare(one, near) > scheme.compare(one, far)
    with pytest.raises(EdgeError, match=f"keys {key('a').id.hex()} and {key('b').id.hex()}, which do not compare"):
        scheme.compare(one, scheme.enroll(embeddings[0], key("b")))


@ALL
def test_wrong_key_is_refused_by_name(scheme: Scheme[Any], embeddings: Embeddings, key: Key) -> None:
    template = scheme.enroll(embeddings[0], key("a"))
    with pytest.raises(EdgeError, match=f"is of key {key('a').id.hex()}, not {key('b').id.hex()}"):
        scheme.match(template, embeddings[0], key("b"))


@ALL
@pytest.mark.parametrize("end", [0, 1, 9, 10, 16, 17, -1])
def test_truncated_template_is_refused(scheme: Scheme[Any], embeddings: Embeddings, key: Key, end: int) -> None:
    template = scheme.enroll(embeddings[0], key("a"))
    for damaged in (template[:end], template + b"\0"):
        with pytest.raises(EdgeError, match="cut off"):
            scheme.match(damaged, embeddings[0], key("a"))


@pytest.mark.parametrize("scheme", [SCHEMES[0], SCHEMES[2]], ids=lambda scheme: scheme.name)
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_template_with_numbers_that_are_none_is_refused(
    scheme: Scheme[Any], value: float, embeddings: Embeddings, key: Key
) -> None:
    body = scheme.enroll(embeddings[0], key("a"))[: -TAG_BYTES - 4] + np.array(value, "<f4").tobytes()
    template = body + key("a").tag(body)
    with pytest.raises(EdgeError, match="it is damaged"):
        scheme.match(template, embeddings[0], key("a"))


@pytest.mark.parametrize("scheme", SCHEMES, ids=lambda scheme: scheme.name)
@pytest.mark.parametrize("other", SCHEMES, ids=lambda scheme: scheme.name)
def test_template_of_another_scheme_is_refused_by_name(
    scheme: Scheme[Any], other: Scheme[Any], embeddings: Embeddings, key: Key
) -> None:
    template = other.enroll(embeddings[0], key("a"))
    if other is scheme:
        assert scheme.match(template, embeddings[0], key("a")) > 0
    else:
        with pytest.raises(EdgeError, match=f"is of scheme {other.name}, not {scheme.name}"):
            scheme.match(template, embeddings[0], key("a"))


def test_unknown_scheme_is_refused() -> None:
    with pytest.raises(EdgeError, match="scheme number 200, which this program does not know"):
        scheme_of(bytes([200]) + bytes(60))
    with pytest.raises(EdgeError, match="there are slerpface, rotated, polyprotect"):
        scheme_named("biohash")


@ALL
@pytest.mark.parametrize("wrong", [np.zeros(128), np.full(128, np.nan), np.ones(64) / 8, np.ones(128)], ids=str)
def test_no_unit_embedding_is_refused(
    scheme: Scheme[Any], wrong: NDArray[Any], embeddings: Embeddings, key: Key
) -> None:
    template = scheme.enroll(embeddings[0], key("a"))
    with pytest.raises(EdgeError, match="no unit embedding"):
        scheme.enroll(wrong, key("a"))
    with pytest.raises(EdgeError, match="no unit embedding"):
        scheme.match(template, wrong, key("a"))

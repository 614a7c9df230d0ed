"""The server as a matcher sees it: templates sent, followed and erased; other answers are refused by one line."""

import json
from collections.abc import Callable

import httpx2
import pytest

from edge_stscq.errors import EdgeError
from edge_stscq.matcher.template_source import MAX_ANSWER, SourceError, TemplateSource
from edge_stscq.server.auth.scope import Scope
from tests.matcher.servers import FaceServer, make_token

TEMPLATE = bytes(range(64))


def test_template_that_is_sent_is_followed_and_erased(
    source: TemplateSource, server: FaceServer, model_id: bytes
) -> None:
    face = source.send(TEMPLATE, model_id)
    found = source.changes(0)
    ((name, template, model, device, captured),) = found.templates
    assert (name, template, model, device, captured) == (face, TEMPLATE, model_id, "matcher", None)
    assert (found.next, found.complete, found.erased) == (1, True, [])
    assert source.changes(1).templates == []
    source.erase(face)
    assert source.changes(1).erased == [face]
    source.erase(face)  # it is gone, which is all that is asked
    assert server.ask("GET", "/v1/faces").json()["faces"] == []


def test_each_template_has_a_stream_of_its_own(source: TemplateSource, model_id: bytes) -> None:
    names = [source.send(TEMPLATE, model_id) for _ in range(3)]
    assert len({name.rpartition("-")[0] for name in names}) == 3


def test_server_refuses_by_its_own_line(source: TemplateSource, server: FaceServer, model_id: bytes) -> None:
    with pytest.raises(SourceError, match="refused the template: model 0000000000000000 is not held here"):
        source.send(TEMPLATE, bytes(8))
    with pytest.raises(EdgeError, match="a template of 10 to 512 bytes travels, this has 513"):
        source.send(bytes(513), model_id)
    face = source.send(TEMPLATE, model_id)
    for scopes, call, line in (
        ((Scope.READ,), lambda one: one.changes(0), "gives no templates: 403 this token may read; templates is needed"),
        ((Scope.READ,), lambda one: one.send(TEMPLATE, model_id), "403 this token may read; send is needed here"),
        ((Scope.READ,), lambda one: one.erase(face), f"gives no erasure of {face}: 403 this token may read; delete is"),
    ):
        token = make_token(server.folder / "tokens.db", *scopes)
        with TemplateSource(server.url, token=token) as other, pytest.raises(SourceError, match=line):
            call(other)


def page(**changed: object) -> bytes:
    one = {"id": "door-1-0", "device": "door-1", "model_id": "00" * 8, "captured": None, "template": "AAAA"}
    of_one = {name: value for name, value in changed.items() if name in one}
    of_page = {name: value for name, value in changed.items() if name not in one}
    whole = {"templates": [one | of_one], "erased": [], "next": 1, "complete": True}
    return json.dumps(whole | of_page).encode()


ANSWERS: dict[str, bytes] = {
    "no JSON": b"<html>", "another JSON": b"[]", "no templates": page(templates=None), "no base64": page(template="!"),
    "no model": page(model_id="zz" * 8), "a name that is none": page(id="../../etc"),
    "a terminal's commands": page(device="\x1b[2J"), "no number": page(next="x"),
    "no end": page(next=0, complete=False), "backwards": page(next=-1), "deep": b"[" * 100_000,
}  # fmt: skip


def answering(answer: Callable[[httpx2.Request], httpx2.Response]) -> TemplateSource:
    return TemplateSource("http://edge.test", token="t", transport=httpx2.MockTransport(answer))


@pytest.mark.parametrize("name", ANSWERS)
def test_answers_of_no_server_are_refused(name: str) -> None:
    refused = pytest.raises(SourceError, match="does not answer as a server of templates; check --server")
    with answering(lambda request: httpx2.Response(200, content=ANSWERS[name])) as source, refused:
        source.changes(0)


def test_page_of_the_tests_is_one() -> None:
    with answering(lambda request: httpx2.Response(200, content=page())) as source:
        assert [one.face for one in source.changes(0).templates] == ["door-1-0"]


def test_answers_without_end_are_not_read() -> None:
    refused = pytest.raises(SourceError, match="answers with over 4194304 bytes")
    with answering(lambda request: httpx2.Response(200, content=bytes(MAX_ANSWER + 1))) as source, refused:
        source.changes(0)


def test_largest_page_is_read() -> None:
    one = json.loads(page(template="A" * 684, id=f"{'f' * 64}-{'9' * 16}", device="d" * 64))
    full = one | {"templates": one["templates"] * 1000, "erased": ["f" * 81] * 1000}
    with answering(lambda request: httpx2.Response(200, json=full)) as source:
        assert len(source.changes(0).templates) == 1000


def test_refusals_of_other_programs_are_one_line() -> None:
    for content, line in ((b"<html>\n<body>", "and no reason; check --server"), (b'{"error": "a\\nb"}', "a b")):
        other = answering(lambda request, content=content: httpx2.Response(418, content=content))
        with other as source, pytest.raises(SourceError) as caught:
            source.changes(0)
        assert str(caught.value) == f"http://edge.test gives no templates: 418 {line}"


def test_server_that_is_away_is_named() -> None:
    refused = pytest.raises(SourceError, match="http://127.0.0.1:9 cannot be reached")
    with TemplateSource("http://127.0.0.1:9", token="t") as source, refused:
        source.changes(0)
    with pytest.raises(EdgeError, match="is not a server address"):
        TemplateSource("ftp://127.0.0.1")

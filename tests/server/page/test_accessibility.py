"""WCAG 2.2 AA as axe checks it: every view of the page, dark and light, on a desk and in a hand."""

from collections.abc import Callable

import pytest

from edge_stscq.stream import CodedFace
from tests.server.page.conftest import PHONE, WIDE, Page, Send, Site
from tests.server.page.test_visits import minutes_ago

MakeFaces = Callable[..., list[CodedFace]]


def assert_accessible(page: Page, view: str) -> None:
    """axe finds nothing in either color scheme and at either width."""
    for scheme in ("light", "dark"):
        page.scheme(scheme)
        for width, height in (PHONE, WIDE):
            page.size(width, height)
            assert page.axe() == [], f"{view}, {scheme}, {width} pixels wide"


def test_views_of_visits_are_accessible(grouping: Site, page: Page, send: Send, make_faces: MakeFaces) -> None:
    faces = make_faces(4)
    send(grouping.url, [(face, track // 2, minutes_ago(9 - track)) for track, face in enumerate(faces)])
    page.driver.get(grouping.page)
    page.until_cards(2)
    page.until_decoded(3, 2)
    page.until_text("#kept", "As JPEG pictures")
    page.click("#cameras summary")
    assert_accessible(page, "the list")

    page.click("#days .open")
    page.one("#name").send_keys("Ada\n")
    page.until_text("#notice-text", "This person is Ada now.")
    page.until("document.querySelectorAll('#detail-layers img.there').length === 3")
    page.click("#who-more summary")
    page.click("#facts summary")
    assert_accessible(page, "the enlargement, with a notice")
    page.click("#older")
    page.one("#merge").send_keys("A")
    page.until("document.querySelector('#merge-box li button')")
    assert_accessible(page, "the enlargement, with persons to choose from")
    page.click("#delete")
    assert_accessible(page, "a question")
    page.click("#sure-no")
    page.click("#again")
    page.until("document.querySelectorAll('#results .card').length === 1")
    page.until("document.querySelector('#results img.there')")
    assert_accessible(page, "a search")
    page.click("#search-close")
    page.one("#person").send_keys("nobody")
    page.until_text("#person-box [role=status]", "Nobody is called")
    assert_accessible(page, "a name that nobody has")


def test_views_without_persons_are_accessible(plain: Site, page: Page, send: Send, make_faces: MakeFaces) -> None:
    page.driver.get(plain.page)
    page.until_text("#empty-title", "No face yet")
    page.click("#persons-off summary")
    assert_accessible(page, "an empty list")
    send(plain.url, [(face, track, minutes_ago(9)) for track, face in enumerate(make_faces(2))])
    page.until_decoded(3, 2)
    page.click("#days .open")
    page.until("document.querySelectorAll('#detail-layers img.there').length === 3")
    assert_accessible(page, "a face")
    page.run("sessionStorage.clear()")
    page.driver.refresh()
    page.until("document.getElementById('token-dialog').open")
    assert_accessible(page, "the question for a token")


@pytest.mark.parametrize(
    ("spoiled", "rule"),
    [
        ("document.querySelector('label[for=camera]').remove()", "select-name"),
        ("document.getElementById('pause').textContent = ''", "button-name"),
        ("document.getElementById('list-title').className = 'spoiled'", "color-contrast"),
        ("document.documentElement.removeAttribute('lang')", "html-has-lang"),
    ],
)
def test_axe_finds_what_was_spoiled(plain: Site, page: Page, spoiled: str, rule: str) -> None:
    page.driver.get(plain.page)
    page.until_text("#empty-title", "No face yet")
    # A style of the page's own files is all that its policy lets in; the inspector's are let in, too.
    page.driver.execute_script(
        "const sheet = new CSSStyleSheet(); sheet.replaceSync('.spoiled { color: #aaa; background: #bbb; }');"
        "document.adoptedStyleSheets = [sheet]"
    )
    assert page.axe() == []
    page.driver.execute_script(spoiled)
    assert [line.split(":")[0] for line in page.axe()] == [rule]

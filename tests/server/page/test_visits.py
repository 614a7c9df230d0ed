"""The page of a server that groups persons: who was that, named, found again, corrected, deleted."""

import shutil
import time
from collections.abc import Callable
from pathlib import Path

from edge_stscq._local_servers import local_token
from edge_stscq.server.decoding.catalog import CatalogEntry
from edge_stscq.stream import CodedFace
from tests.server.conftest import Served
from tests.server.page.conftest import ENTER, ESCAPE, PHONE, TAB, WIDE, Page, Send, Site
from tests.support.models.match_rules import rule_of

MakeFaces = Callable[..., list[CodedFace]]
WHO = "[...document.querySelectorAll('#days .who')].map(one => one.textContent)"
DAY = 86_400_000


def open_page(page: Page, site: Site, count: int) -> None:
    page.driver.get(site.page)
    page.until_cards(count)


def minutes_ago(count: float) -> int:
    return int((time.time() - 60 * count) * 1000)


def test_visit_is_named_found_again_and_deleted_by_mouse(
    grouping: Site, page: Page, send: Send, make_faces: MakeFaces
) -> None:
    first, second, third = make_faces(3)
    send(grouping.url, [(first, 1, minutes_ago(20)), (second, 1, minutes_ago(19))])
    send(grouping.url, [(third, 1, minutes_ago(3))], "hall")
    open_page(page, grouping, 2)
    assert page.text("#days .card").split("\n")[1:] == ["hall", page.text("#days .time")]
    assert page.text("#days .time").startswith("3 min ago · ")
    assert "2 pictures" in page.texts("#days .card")[1]

    page.all("#days .open")[1].click()
    page.until("document.querySelectorAll('#members-list button').length === 2")
    page.until("document.querySelectorAll('#detail-layers img.there').length === 3")
    assert page.text("#detail-where") == "door-1"
    page.one("#name").send_keys("<script>alert('Ada')</script>")
    page.click("#name-form button")
    page.until_text("#notice-text", "This person is <script>alert('Ada')</script> now.")
    assert page.text("#detail-who") == "<script>alert('Ada')</script>"
    page.click("#notice-undo")
    page.until_text("#notice-text", "Undone.")
    page.until("document.getElementById('name').value === ''")
    page.one("#name").send_keys("Ada")
    page.click("#name-form button")
    page.until_text("#detail-who", "Ada")

    page.all("#members-list button")[1].click()
    page.click("#download")
    page.until_text("#notice-text", "Downloaded the picture.")
    (file,) = until_files(page.downloads)
    assert file.name.startswith("door-1-")
    assert file.read_bytes().startswith(b"\x89PNG")

    page.click("#again")
    page.until_text("#search-title", "Find Ada again")
    page.until("document.querySelectorAll('#results .card').length === 1")
    assert "hall" in page.text("#results .card")
    page.click("#search-close")
    page.one("#person").send_keys("ad")
    page.click("#person-box li button")
    page.until_cards(1)
    assert page.text("#list-title") == "Visits of Ada"
    page.click("#days .open")
    page.click("#delete")
    page.click("#sure-yes")
    page.until_text("#notice-text", "Deleted 2 pictures.")
    page.until_text("#empty-title", "No visit of Ada")
    page.click("#person-clear")
    page.until_cards(1)
    assert page.complaints(404) == []


def until_files(folder: Path) -> list[Path]:
    """The files in a folder, once one is there whole."""
    for _ in range(600):
        if found := [path for path in folder.glob("*") if path.suffix == ".png"]:
            return found
        time.sleep(0.1)
    raise AssertionError(f"nothing came to {folder}")


def test_name_is_of_the_visit_that_is_shown_however_late_its_person_comes(
    grouping: Site, page: Page, send: Send, make_faces: MakeFaces
) -> None:
    """A name that was typed before a slow server had answered was lost, or went to the person shown before."""
    for minutes, face in zip((20, 3), make_faces(2), strict=True):
        send(grouping.url, [(face, 1, minutes_ago(minutes))])
    open_page(page, grouping, 2)
    page.all("#days .open")[0].click()
    page.until_text("#who-facts", "Seen once.")
    page.driver.execute_script("""
        const ask = window.fetch;
        window.held = [];
        window.fetch = (address, options) => String(address).match(/persons\\/\\d+$/) && !options?.body
            ? new Promise((answer) => window.held.push(() => answer(ask(address, options)))) : ask(address, options);
    """)
    page.click("#older")
    page.until("window.held.length > 0")
    page.one("#name").send_keys("Ada")
    page.click("#name-form button")
    page.until_text("#notice-text", "This person is Ada now.")
    page.driver.execute_script("while (window.held.length) window.held.shift()();")
    page.until_text("#detail-who", "Ada")
    page.click("#detail-close")
    page.until("document.querySelectorAll('#days .card')[1].textContent.includes('Ada')")
    assert "Ada" not in page.texts("#days .card")[0]


def test_visit_is_named_found_again_and_deleted_by_keyboard(
    grouping: Site, page: Page, send: Send, make_faces: MakeFaces
) -> None:
    first, second = make_faces(2)
    send(grouping.url, [(first, 1, minutes_ago(20)), (second, 2, minutes_ago(3))])
    open_page(page, grouping, 2)
    page.tab_to("#days .open")
    page.keys(ENTER)
    assert page.run("document.activeElement.id") == "detail-who"
    page.tab_to("#name")
    page.keys("Ada", ENTER)
    page.until_text("#detail-who", "Ada")
    page.tab_to("#notice-undo")
    page.keys(ENTER)
    page.until_text("#notice-text", "Undone.")
    page.tab_to("#name")
    page.keys("Ada", ENTER)
    page.until_text("#detail-who", "Ada")
    page.tab_to("#again")
    page.keys(ENTER)
    page.until("document.querySelectorAll('#results .card').length === 1")
    assert page.run("document.activeElement.id") == "search-title"
    page.keys(ESCAPE)
    page.until("document.activeElement.closest('.card')?.querySelector('.who').textContent === 'Ada'")
    page.driver.execute_script("document.activeElement.blur(); document.getElementById('main').blur()")
    page.driver.execute_script("document.querySelector('.skip').focus()")
    page.tab_to("#person")
    page.keys("ada")
    page.until("document.querySelector('#person-box li b')?.textContent === 'Ada'")
    page.keys(ENTER)
    page.until_cards(1)
    page.tab_to("#days .open")
    page.keys(ENTER)
    page.tab_to("#delete")
    page.keys(ENTER)
    page.until("document.activeElement.id === 'sure-no'")
    page.keys(TAB)
    page.keys(ENTER)
    page.until_text("#empty-title", "No visit of Ada")
    assert not page.one("#detail").is_displayed()
    assert page.complaints(404) == []


def test_persons_are_merged_split_hidden_and_it_is_undone(
    grouping: Site, page: Page, send: Send, make_faces: MakeFaces
) -> None:
    send(grouping.url, [(face, track, minutes_ago(30 - track)) for track, face in enumerate(make_faces(3), 1)])
    open_page(page, grouping, 3)
    page.click("#days .open")
    page.one("#name").send_keys("Ada", ENTER)
    page.until(f"{WHO}[0] === 'Ada'")
    page.click("#older")
    page.click("#who-more summary")
    page.one("#merge").send_keys("Ad")
    page.click("#merge-box li button")
    page.until_text("#notice-text", "Now one person: Ada.")
    page.until(f"{WHO}.filter(one => one === 'Ada').length === 2")
    page.until_text("#who-all", "All 2 visits")

    page.click("#split")
    page.until_text("#notice-text", "This visit is of Person")
    page.until(f"{WHO}.filter(one => one === 'Ada').length === 1")
    page.click("#notice-undo")
    page.until(f"{WHO}.filter(one => one === 'Ada').length === 2")

    page.click("#hide")
    page.until_text("#notice-text", "Ada is hidden from the list.")
    page.until_cards(1)
    page.until_text("#hide", "Show in the list again")
    page.click("#notice-undo")
    page.until_cards(3)
    page.click("#who-all")
    page.until_cards(2)
    assert page.text("#list-title") == "Visits of Ada"
    page.click("#days .open")
    page.click("#forget")
    page.click("#sure-yes")
    page.until_text("#notice-text", "Forgot Ada: 2 pictures erased.")
    page.until_text("#empty-title", "No visit of Ada")
    assert page.complaints(404) == []


def test_persons_who_are_alike_are_one_or_perhaps(
    served: Served, page: Page, tiny_model: Path, tmp_path: Path, entry: CatalogEntry, send: Send, make_faces: MakeFaces
) -> None:
    """A face seen twice is one person, who bears the name in every visit; others are offered as perhaps the same."""
    model = Path(shutil.copytree(tiny_model, tmp_path / "model"))
    rule_of(entry.model_id.hex(), ("basic", "middle", "enhanced"), None, same_person=0.999, perhaps=-1).save(model)
    first, other = make_faces(2)
    with served("--persons", "--model", model, "--store", tmp_path / "faces.db") as (url, _):
        send(url, [(first, 1, minutes_ago(50)), (other, 2, minutes_ago(5))])
        send(url, [(first, 1, minutes_ago(3))], "hall")
        page.driver.get(f"{url}/#token={local_token(url)}")
        page.until_cards(3)
        page.until(f"{WHO}[0] === {WHO}[2] && {WHO}[0] !== {WHO}[1]")
        page.click("#days .open")
        page.until_text("#who-facts", "2 visits since")
        assert page.text("#who-facts").endswith("at door-1, hall")
        page.click("#who-all")
        page.until_cards(2)
        page.click("#days .open")
        page.one("#name").send_keys("Ada", ENTER)
        page.until(f"{WHO}.every(one => one === 'Ada')")
        page.until_text("#list-title", "Visits of Ada")
        page.click("#who-more summary")
        page.click("#perhaps-list button")
        page.until_text("#notice-text", "Now one person: Ada.")
        page.until_cards(3)
        page.click("#notice-undo")
        page.until_cards(2)
        page.click("#again")
        page.until_text("#verdict", "1 visit of Ada, perhaps 1 more")
        assert page.texts("#results .who")[0] == "Ada"
        assert page.complaints(404) == []


def test_visits_come_page_by_page_under_their_days(
    grouping: Site, page: Page, send: Send, make_faces: MakeFaces
) -> None:
    """130 visits of two days: more come as the end is reached, a new one stands first, and a day can be chosen."""
    faces, now = make_faces(131), minutes_ago(1)
    midnight = int(time.mktime(time.localtime()[:3] + (0,) * 5 + (-1,)) * 1000)
    earlier = min(midnight - 1000, now - DAY)
    seen = [(face, track, earlier - track * 1000) for track, face in enumerate(faces[1:], 1)]
    send(grouping.url, seen)
    page.driver.get(grouping.page)
    page.until("document.querySelectorAll('#days .card').length >= 60")
    assert len(page.all("#days .card")) < 130
    page.tab_to("#more")
    page.keys(ENTER)
    while not page.one("#end").is_displayed():
        page.run("scrollTo(0, document.body.scrollHeight)")
    page.until_cards(130)
    times = page.run("[...document.querySelectorAll('#days time')].map(one => one.dateTime)")
    assert times == sorted(times, reverse=True)
    assert len(set(times)) == 130

    send(grouping.url, [(faces[0], 131, now)])
    page.until_cards(131)
    assert page.text("#days .time").startswith(("1 min ago", "just now"))
    assert len(page.all("#days h3")) >= 2
    day = time.strftime("%Y-%m-%d", time.localtime(now / 1000))
    page.run(f"(document.getElementById('day').value = '{day}')")
    page.run("document.getElementById('day').dispatchEvent(new Event('change'))")
    page.until_cards(1)
    assert page.run("location.hash") == f"#day={day}"
    for width, height in (PHONE, (320, 600), WIDE):
        page.size(width, height)
        assert page.run("document.documentElement.scrollWidth <= innerWidth")
    assert page.complaints() == []


def test_page_of_a_token_for_one_camera_names_nobody(
    grouping: Site, page: Page, send: Send, make_faces: MakeFaces
) -> None:
    """Persons may have been seen by others, so there is no name to give; the visits are there."""
    first, second = make_faces(2)
    send(grouping.url, [(first, 1, minutes_ago(2))])
    send(grouping.url, [(second, 1, minutes_ago(2))], "hall")
    page.driver.get(f"{grouping.url}/#token={grouping.issue('hall', 'read', 'match')}")
    page.until_cards(1)
    page.click("#days .open")
    page.until_text("#facts-list", "hall")
    page.until("document.getElementById('who').hidden")
    assert not page.one("#who-more").is_displayed()

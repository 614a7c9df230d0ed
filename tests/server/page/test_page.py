"""The page of a server that groups no persons: faces, newest first, enlarged, found again, deleted."""

import contextlib
import re
import shutil
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import httpx2

from edge_stscq._local_servers import local_token
from edge_stscq.server.decoding.catalog import CatalogEntry
from edge_stscq.stream import CodedFace
from tests.server.page.conftest import (
    DELETE,
    DOWN,
    END,
    ENTER,
    ESCAPE,
    HOME,
    LEFT,
    PHONE,
    RIGHT,
    UP,
    WIDE,
    Page,
    Site,
    post,
)
from tests.support.models.match_rules import rule_of

Served = Callable[..., AbstractContextManager[tuple[str, "subprocess.Popen[str]"]]]
MakeFaces = Callable[..., list[CodedFace]]
KEYS = "[...document.querySelectorAll('#days .card')].map(one => one.dataset.key)"


def test_page_faces_arrive_and_are_found(plain: Site, page: Page, entry: CatalogEntry, make_faces: MakeFaces) -> None:
    faces = make_faces(4)
    basic = faces[0].truncate(1, entry.config.layer_ends)
    url = plain.url
    page.driver.get(plain.page)
    page.until("document.getElementById('connection').dataset.state === 'live'")
    assert page.run("location.href") == f"{url}/"
    page.until_text("#empty-title", "No face yet")
    assert f"edge-stscq capture --source 0 --device door-1 --url {url}" in page.text("#command")

    post(url, entry, [basic])
    page.until_decoded(1)
    assert not page.one("#empty").is_displayed()
    assert re.fullmatch(r"cam\njust now · [\d:]+ [AP]M", page.text("#days .card"))
    post(url, entry, faces[:1])
    page.until_decoded(3)
    assert "sharper" in page.one("#days .card img").get_attribute("class")
    post(url, entry, faces[1:], 1, "door")
    page.until_decoded(3, 4)
    assert page.run(KEYS) == ["door-3", "door-2", "door-1", "cam-0"]
    assert page.texts("#days h3") == ["Today"]

    page.click("#days .card[data-key='cam-0'] .open")
    page.until("document.querySelectorAll('#detail-layers img.there').length === 3")
    assert page.texts("#detail-layers p") == ["basic", "+ middle", "+ enhanced"]
    assert page.text("#detail-who") == "cam"
    assert not page.one("#who").is_displayed()
    page.click("#facts summary")
    assert f"{len(entry.codec.encode_frame(faces[0]))} bytes" in page.text("#facts-list")
    page.click("#again")
    page.until("document.querySelectorAll('#results .card').length === 3")
    shown = [float(text.removeprefix("likeness ")) for text in page.texts("#results .verdict")]
    assert shown == sorted(shown, reverse=True)
    assert "with 4 faces" in page.text("#search-note")
    page.keys(ESCAPE)
    assert not page.one("#search").is_displayed()
    assert page.complaints() == []


def test_page_says_in_one_place_how_persons_are_turned_on(
    plain: Site, page: Page, entry: CatalogEntry, make_faces: MakeFaces
) -> None:
    url = plain.url
    post(url, entry, make_faces(1))
    page.driver.get(plain.page)
    page.until_decoded(3)
    assert (page.text("#title"), page.text("#list-title")) == ("Faces", "All faces")
    assert not page.one("#person-field").is_displayed()
    assert not page.one("#picture").is_displayed()
    assert "serve --persons" not in page.text("body")
    page.click("#persons-off summary")
    assert "edge-stscq serve --persons" in page.text("#persons-off")
    page.until_text("#kept", "1 face is kept in")
    page.until_text("#kept", "As JPEG pictures, it would take about")
    assert page.complaints() == []


def test_page_filters_by_camera_and_day(plain: Site, page: Page, entry: CatalogEntry, make_faces: MakeFaces) -> None:
    """Choices stand in the address; another day is empty, and says so."""
    url = plain.url
    post(url, entry, make_faces(2))
    post(url, entry, make_faces(1), device="door")
    page.driver.get(plain.page)
    page.until_cards(3)
    page.until("document.querySelectorAll('#camera option').length === 3")
    page.one("#camera").send_keys("door")
    page.until_cards(1)
    assert page.text("#list-title") == "Faces at door"
    post(url, entry, make_faces(1), 2)
    post(url, entry, make_faces(1), 1, "door")
    page.until_cards(2)
    page.driver.refresh()
    page.until_cards(2)
    assert page.run(KEYS) == ["door-1", "door-0"]
    page.run("(document.getElementById('day').value = '2001-02-03')")
    page.run("document.getElementById('day').dispatchEvent(new Event('change'))")
    page.until_text("#empty-title", "No face at door on February 3, 2001")
    page.click("#everything")
    page.until_cards(5)
    assert page.run("location.href") == f"{url}/"
    page.until_text("#cameras-title", "2 cameras, the last face just now")
    page.click("#cameras summary")
    assert "that is no fault" in page.text("#cameras")
    assert page.complaints() == []


def test_page_keyboard_and_phone(plain: Site, page: Page, entry: CatalogEntry, make_faces: MakeFaces) -> None:
    url = plain.url
    post(url, entry, make_faces(9), device="a-camera-with-a-name-of-which-nobody-has-thought-before")
    post(url, entry, make_faces(1), device="d" * 64)
    page.driver.get(plain.page)
    page.until_decoded(3, 10)
    page.tab_to("#days .open")
    here = "document.activeElement.closest('.card').dataset.key"
    keys = page.run(KEYS)
    for key, place in ((RIGHT, 1), (RIGHT, 2), (DOWN, 5), (UP, 2), (LEFT, 1), (END, 9), (HOME, 0)):
        page.keys(key)
        assert page.run(here) == keys[place]
    assert page.run("document.querySelectorAll('#days .open[tabindex=\"0\"]').length") == 1
    page.keys(ENTER)
    assert page.run("document.activeElement.id") == "detail-who"
    page.click("#older")
    page.keys(ESCAPE)
    page.until("!document.getElementById('detail').open")
    assert page.run(here) == keys[1]

    page.keys(DELETE)
    page.until("document.activeElement.id === 'sure-no'")
    page.keys(ENTER)
    assert len(page.run(KEYS)) == 10
    page.keys(DELETE)
    page.tab_to("#sure-yes")
    page.keys(ENTER)
    page.until_text("#notice-text", "Deleted 1 picture.")
    page.until_cards(9)
    assert keys[1] not in page.run(KEYS)
    assert page.run(here) == keys[2]
    for width, height in (PHONE, (320, 600), WIDE):
        page.size(width, height)
        assert page.run("document.documentElement.scrollWidth <= innerWidth")
    assert page.complaints() == []


def test_page_token(plain: Site, page: Page, entry: CatalogEntry, make_faces: MakeFaces) -> None:
    token, sender = plain.issue("*", "read", "match"), plain.issue("*", "send")
    url = plain.url
    post(url, entry, make_faces(2), token=sender)
    page.driver.get(url)
    page.until("document.getElementById('token-dialog').open")
    assert page.all(".card") == []
    page.one("#token").send_keys("stscq_wrong\n")
    page.until("document.getElementById('token-note').role === 'alert'")
    page.until("document.getElementById('token-dialog').open")
    page.one("#token").send_keys(token, "\n")
    page.until_decoded(3, 2)
    page.click("#days .open")
    page.click("#delete")
    page.click("#sure-yes")
    page.until_text("#notice-text", "; delete is needed here")
    page.click("#again")
    page.until("document.querySelectorAll('#results .card').length === 1")
    assert token not in page.run("document.documentElement.outerHTML + document.cookie + location.href")
    page.driver.refresh()
    page.until_decoded(3, 2)
    assert page.complaints(401, 403) == []


def test_page_reconnect_and_pause(
    served: Served, page: Page, tiny_model: Path, tmp_path: Path, entry: CatalogEntry, make_faces: MakeFaces
) -> None:
    faces = make_faces(4)
    place = ("--model", tiny_model, "--store", tmp_path / "faces.db")
    with served(*place) as (url, _):
        post(url, entry, faces[:1])
        page.driver.get(f"{url}/#token={local_token(url)}")
        page.until_decoded(3)
        page.click("#pause")
        post(url, entry, faces[1:2], 1)
        page.until("document.getElementById('held').textContent === 'Show 1 new'")
        assert len(page.all("#days .card")) == 1
        page.click("#held")
        page.until_decoded(3, 2)
        post(url, entry, faces[2:3], 2)
        page.until("document.getElementById('held').textContent === 'Show 1 new'")
        page.click("#pause")
        page.until_decoded(3, 3)
    page.until("document.getElementById('connection').dataset.state === 'lost'")
    with served(*place, "--port", url.rpartition(":")[2]):
        post(url, entry, faces[3:], 3)
        page.until("document.getElementById('connection').dataset.state === 'live'")
        page.until_decoded(3, 4)


def test_page_follows_erasures(plain: Site, page: Page, entry: CatalogEntry, make_faces: MakeFaces) -> None:
    """A face that somebody else erased goes, from further pages too; a late layer comes to them."""
    late, *others = make_faces(130)
    url = plain.url
    post(url, entry, [late.truncate(1, entry.config.layer_ends), *others[:69]], device="gone")
    post(url, entry, others[69:], device="door")
    page.driver.get(plain.page)
    page.until("document.querySelectorAll('#days .card').length >= 60")
    while not page.one("#end").is_displayed():
        page.run("scrollTo(0, document.body.scrollHeight)")
    page.until_cards(130)
    assert page.run(KEYS)[-1] == "gone-0"
    page.until_decoded(1)
    post(url, entry, [late], device="gone")
    page.until("document.querySelector('[data-key=\"gone-0\"] img').dataset.layers === '3'")
    headers = {"Authorization": f"Bearer {local_token(url)}"}
    assert httpx2.delete(f"{url}/v1/faces/gone-1", headers=headers).status_code == 200
    page.until_cards(129)
    assert "gone-1" not in page.run(KEYS)
    assert page.complaints() == []


@contextlib.contextmanager
def behind_prefix(url: str, host: bytes | None = None) -> Iterator[str]:
    """Address below /faces/ of a proxy to `url`, as `location /faces/ { proxy_pass URL/; }` makes one.

    Args:
        host: that it puts in the place of the browser's, as nginx does where it is not told otherwise.
    """

    def changed(data: bytes) -> bytes:
        data = re.sub(rb"^(GET|POST) /faces/", rb"\1 /", data)
        return data if host is None else re.sub(rb"(?m)^Host: [^\r]*", b"Host: " + host, data)

    def pump(source: socket.socket, target: socket.socket, change: Callable[[bytes], bytes]) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                target.sendall(change(data))
            target.shutdown(socket.SHUT_WR)

    def accept(listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = listener.accept()
                server = socket.create_connection((address.host, address.port or 80))
                opened.extend((client, server))
                for arguments in ((client, server, changed), (server, client, bytes)):
                    threading.Thread(target=pump, args=arguments, daemon=True).start()

    address, opened = httpx2.URL(url), list[socket.socket]()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=accept, args=(listener,), daemon=True).start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/faces/"
        for each in (listener, *opened):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
    for each in opened:
        each.close()


def test_page_under_a_prefix(plain: Site, page: Page, entry: CatalogEntry, make_faces: MakeFaces) -> None:
    """The same page; where the proxy keeps the browser's Host to itself, it says why there is no feed."""
    url = plain.url
    with behind_prefix(url) as prefixed:
        page.driver.get(f"{prefixed}#token={local_token(url)}")
        page.until("document.getElementById('connection').dataset.state === 'live'")
        post(url, entry, make_faces(2))
        page.until_decoded(3, 2)
        page.click("#days .open")
        page.click("#again")
        page.until("document.querySelectorAll('#results .card').length === 1")
        assert page.run("location.href") == prefixed
        assert prefixed.rstrip("/") in page.run("document.getElementById('command').textContent")
        page.until("document.querySelectorAll('#camera option').length === 2")
        page.one("#camera").send_keys("cam")
        page.until("location.hash === '#camera=cam'")
        assert page.run("location.href") == f"{prefixed}#camera=cam"
        assert page.complaints() == []
    with behind_prefix(url, b"upstream") as prefixed:
        page.driver.get(f"{prefixed}#token={local_token(url)}")
        page.until("/pass Host on/.test(document.getElementById('connection-text').textContent)")


def test_page_says_who_it_is(
    served: Served, page: Page, tiny_model: Path, tmp_path: Path, entry: CatalogEntry, make_faces: MakeFaces
) -> None:
    """The face sent again is the same person; others are strangers and folded away."""
    model = Path(shutil.copytree(tiny_model, tmp_path / "model"))
    rule_of(entry.model_id.hex(), ("basic", "middle", "enhanced"), None, same_person=0.999, perhaps=0.998).save(model)
    first, *others = make_faces(6)
    with served("--model", model, "--store", tmp_path / "faces.db") as (url, _):
        post(url, entry, [first, *others])
        post(url, entry, [first], device="door")
        page.driver.get(f"{url}/#token={local_token(url)}")
        page.until_decoded(3, 7)
        page.click("#days .card[data-key='door-0'] .open")
        page.click("#again")
        page.until_text("#verdict", "1 face of the same person")
        assert "1 stranger in 10,000 passes for the same person" in page.text("#verdict-error")
        (card,) = page.all("#results .card")
        assert card.get_attribute("data-key") == "cam-0"
        assert card.text.endswith("same person")
        assert page.text("#others-title") == "5 strangers, the most alike first"
        assert not page.one("#others-list").is_displayed()
        page.click("#others-title")
        page.click("#others-list .card[data-key='cam-3'] .open")
        page.click("#again")
        page.until_text("#verdict", "Nobody here")
        assert not page.all("#results .card")
        for width, height in (PHONE, WIDE):
            page.size(width, height)
            assert page.run("document.documentElement.scrollWidth <= innerWidth")

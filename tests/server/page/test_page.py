"""The gallery page in a real browser, against a real server."""

import contextlib
import importlib.util
import os
import re
import shutil
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from edge_stscq._local_servers import local_token
from edge_stscq.server.decoding.catalog import CatalogEntry
from edge_stscq.stream import CodedFace
from tests.server.conftest import local_bearer
from tests.support.models.match_rules import rule_of

CHROMIUM, DRIVER = Path("/usr/bin/chromium"), Path("/usr/bin/chromedriver")
FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
)  # fmt: skip
WIDE, PHONE = (1440, 900), (390, 844)
PATIENCE = 60

Served = Callable[..., AbstractContextManager[tuple[str, "subprocess.Popen[str]"]]]
MakeFaces = Callable[..., list[CodedFace]]
Issue = Callable[..., str]


class Page:
    """The page as an operator uses and sees it."""

    def __init__(self, driver: Any) -> None:
        self.driver = driver

    def all(self, selector: str) -> list[Any]:
        return self.driver.find_elements("css selector", selector)

    def one(self, selector: str) -> Any:
        return self.driver.find_element("css selector", selector)

    def run(self, script: str) -> Any:
        return self.driver.execute_script(f"return {script}")

    def until(self, script: str) -> Any:
        """Wait until the expression is true, and give its value."""
        from selenium.webdriver.support.ui import WebDriverWait

        return WebDriverWait(self.driver, PATIENCE, 0.05).until(lambda _: self.run(script), script)

    def until_decoded(self, layers: int, count: int = 1) -> None:
        """Wait until `count` faces of the live grid are decoded from so many layers."""
        self.until(f"""document.querySelectorAll('#grid img.there[data-layers="{layers}"]').length === {count}""")

    def keys(self, *keys: str) -> None:
        self.driver.switch_to.active_element.send_keys(*keys)

    def size(self, width: int, height: int) -> None:
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)

    def complaints(self) -> list[str]:
        """Messages of the console since the last look, but of pictures that a busy decoder had no time for."""
        lines = [line["message"] for line in self.driver.get_log("browser")]
        return [line for line in lines if not re.search(r"\.png\?layers=\d+ - .* 503 ", line)]


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    if importlib.util.find_spec("selenium") is None:
        pytest.skip("selenium is not installed; run: pip install 'edge-stscq[dev]'")
    for program in (CHROMIUM, DRIVER):
        if not program.exists():
            pytest.skip(f"there is no {program}; install Debian's chromium and chromium-driver")
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('browser')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    service = webdriver.ChromeService(str(DRIVER), env={**os.environ, "NO_PROXY": "*"})
    driver = webdriver.Chrome(options=options, service=service)
    yield driver
    driver.quit()


@pytest.fixture
def page(browser: Any) -> Page:
    browser.get("about:blank")
    page = Page(browser)
    page.complaints()
    page.size(*WIDE)
    return page


def post(
    url: str, entry: CatalogEntry, faces: list[CodedFace], first: int = 0, device: str = "cam", token: str = "-"
) -> None:
    shown = local_bearer(url) if token == "-" else {"Authorization": f"Bearer {token}"}
    headers = {"Edge-Device": device, "Edge-Sequence": str(first), **shown}
    body = entry.codec.encode_stream(faces)
    assert httpx2.post(f"{url}/v1/frames", content=body, headers=headers, timeout=PATIENCE).status_code == 200


def assert_named(page: Page, within: str = "body") -> None:
    """Every control that is laid out has a name for a screen reader; outside of an open dialog, there is none."""
    controls = page.run(
        f"[...document.querySelectorAll('{within} :is(button, input, a)')].filter(one => one.getClientRects().length)"
    )
    assert controls
    for control in controls:
        assert control.accessible_name, control.get_attribute("outerHTML")


def test_page_faces_arrive_and_are_found(
    served: Served, page: Page, tiny_model: Path, tmp_path: Path, entry: CatalogEntry, make_faces: MakeFaces
) -> None:
    faces = make_faces(4)
    basic = faces[0].truncate(1, entry.config.layer_ends)
    with served("--model", tiny_model, "--store", tmp_path / "faces.db") as (url, _):
        page.driver.get(f"{url}/#token={local_token(url)}")
        page.until("document.getElementById('connection').dataset.state === 'live'")
        assert page.run("location.href") == f"{url}/"
        page.until("!document.getElementById('empty').hidden")
        assert f"edge-stscq capture --source 0 --device door-1 --url {url}" in page.one("#command").text

        post(url, entry, [basic])
        page.until_decoded(1)
        assert not page.one("#empty").is_displayed()
        card = page.one("#grid .card")
        assert re.fullmatch(
            rf"cam\s{len(entry.codec.encode_frame(basic))} B\s[\d:]+ [AP]M\sFind this person\sErase", card.text
        )
        post(url, entry, faces[:1])
        page.until_decoded(3)
        (card,) = page.all("#grid .card")
        assert f"{len(entry.codec.encode_frame(faces[0]))} B" in card.text
        assert card.find_element("css selector", ".layers").get_attribute("aria-label") == "layers: all"
        assert "sharper" in card.find_element("css selector", "img").get_attribute("class")

        post(url, entry, faces[1:], 1, "door")
        page.until_decoded(3, 4)
        assert [card.get_attribute("data-id") for card in page.all("#grid .card")] == [
            "door-3", "door-2", "door-1", "cam-0",
        ]  # fmt: skip
        page.one("#shown label").click()
        page.until_decoded(1, 4)

        page.one("#grid .card[data-id='cam-0'] .find").click()
        page.until("document.querySelectorAll('#results .card').length === 3")
        page.until("document.querySelectorAll('#example-layers img.there').length === 3")
        shown = [float(bar.text) for bar in page.all("#results .likeness b")]
        assert shown == sorted(shown, reverse=True)
        assert "compared with 4 faces" in page.one("#search-note").text
        page.keys("\ue00c")
        assert not page.one("#search").is_displayed()

        page.until("document.querySelectorAll('#devices li').length === 3")
        assert "last hour: 3 faces" in page.all("#devices li")[2].text
        assert "last hour: 1 face," in page.all("#devices li")[1].text
        page.all("#devices button")[1].click()
        page.until("[...document.querySelectorAll('#grid .card')].map(one => one.dataset.id).join() === 'cam-0'")
        assert page.run("document.querySelectorAll('#devices [aria-pressed=true]').length") == 1
        assert page.complaints() == []


def test_page_keyboard_phone_and_names(
    served: Served, page: Page, tiny_model: Path, tmp_path: Path, entry: CatalogEntry, make_faces: MakeFaces
) -> None:
    with served("--model", tiny_model, "--store", tmp_path / "faces.db") as (url, _):
        post(url, entry, make_faces(9), device="a-camera-with-a-name-of-which-nobody-has-thought-before")
        post(url, entry, make_faces(1), device="d" * 64)
        page.driver.get(f"{url}/#token={local_token(url)}")
        page.until_decoded(3, 10)
        here = "document.activeElement.closest('.card').dataset.id"
        page.run("document.querySelector('#grid .find[tabindex=\"0\"]').focus()")
        ids = [card.get_attribute("data-id") for card in page.all("#grid .card")]
        for key, place in (("\ue014", 1), ("\ue014", 2), ("\ue012", 1), ("\ue010", 9), ("\ue011", 0)):
            page.keys(key)
            assert page.run(here) == ids[place]
        page.keys("\ue015")
        assert page.run(here) in ids[2:]
        assert page.run("document.querySelectorAll('#grid .find[tabindex=\"0\"]').length") == 1
        page.keys("\ue007")
        page.until("document.querySelectorAll('#results .card').length === 9")
        assert page.run("document.activeElement.id") == "search-title"

        assert page.run("[...document.images].filter(one => !one.hasAttribute('alt')).length") == 0
        assert page.run("[...document.querySelectorAll('.card img')].every(one => one.alt.startsWith('Face '))")
        assert_named(page)
        landmarks = {element.aria_role for element in page.all("header, main, nav, section")}
        assert landmarks >= {"banner", "main", "navigation", "region"}
        assert page.run("document.querySelectorAll('[aria-live=polite], [role=status]').length") >= 2

        for width, height in (PHONE, (320, 600), WIDE):
            page.size(width, height)
            assert page.run("document.documentElement.scrollWidth <= innerWidth")
        assert page.complaints() == []


def test_page_token(
    served: Served, page: Page, tiny_model: Path, tmp_path: Path, entry: CatalogEntry, make_faces: MakeFaces,
    issue: Issue,
) -> None:  # fmt: skip
    token, sender = issue("*", "read", "match"), issue("*", "send")
    with served("--model", tiny_model, "--store", tmp_path / "faces.db") as (url, _):
        post(url, entry, make_faces(2), token=sender)
        page.driver.get(url)
        page.until("document.getElementById('token-dialog').open")
        assert page.all(".card") == []
        assert_named(page, "#token-dialog")
        page.one("#token").send_keys("stscq_wrong\n")
        page.until("document.getElementById('token-note').role === 'alert'")
        page.until("document.getElementById('token-dialog').open")
        page.one("#token").send_keys(token, "\n")
        page.until_decoded(3, 2)
        page.one("#grid .find").click()
        page.until("document.querySelectorAll('#results .card').length === 1")
        assert token not in page.run("document.documentElement.outerHTML + document.cookie + location.href")
        page.driver.refresh()
        page.until_decoded(3, 2)
        assert all("401" in line and "Content Security" not in line for line in page.complaints())


def test_page_reconnect_and_pause(
    served: Served, page: Page, tiny_model: Path, tmp_path: Path, entry: CatalogEntry, make_faces: MakeFaces
) -> None:
    faces = make_faces(3)
    place = ("--model", tiny_model, "--store", tmp_path / "faces.db")
    with served(*place) as (url, _):
        post(url, entry, faces[:1])
        page.driver.get(f"{url}/#token={local_token(url)}")
        page.until_decoded(3)
        page.one("#pause").click()
        post(url, entry, faces[1:2], 1)
        page.until("document.getElementById('held').textContent === 'Show 1 waiting'")
        assert len(page.all("#grid .card")) == 1
        page.one("#pause").click()
        page.until_decoded(3, 2)
    page.until("document.getElementById('connection').dataset.state === 'lost'")
    with served(*place, "--port", url.rpartition(":")[2]):
        post(url, entry, faces[2:], 2)
        page.until("document.getElementById('connection').dataset.state === 'live'")
        page.until_decoded(3, 3)


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


def test_page_under_a_prefix(
    served: Served, page: Page, tiny_model: Path, tmp_path: Path, entry: CatalogEntry, make_faces: MakeFaces
) -> None:
    """The same page; where the proxy keeps the browser's Host to itself, it says why there is no feed."""
    with served("--model", tiny_model, "--store", tmp_path / "faces.db") as (url, _):
        with behind_prefix(url) as prefixed:
            page.driver.get(f"{prefixed}#token={local_token(url)}")
            page.until("document.getElementById('connection').dataset.state === 'live'")
            post(url, entry, make_faces(2))
            page.until_decoded(3, 2)
            page.one("#grid .find").click()
            page.until("document.querySelectorAll('#results .card').length === 1")
            assert page.run("location.href") == prefixed
            assert prefixed.rstrip("/") in page.run("document.getElementById('command').textContent")
            assert all("503" in line for line in page.complaints())  # a busy decoder, which is asked again
        with behind_prefix(url, b"upstream") as prefixed:
            page.driver.get(f"{prefixed}#token={local_token(url)}")
            page.until("/pass Host on/.test(document.getElementById('connection-text').textContent)")


def test_page_says_who_it_is(
    served: Served, page: Page, tiny_model: Path, tmp_path: Path, entry: CatalogEntry, make_faces: MakeFaces
) -> None:
    """The face sent again is the same person, others are strangers and folded away; a picture needs a bundle."""
    model = Path(shutil.copytree(tiny_model, tmp_path / "model"))
    rule_of(entry.model_id.hex(), ("basic", "middle", "enhanced"), None, same_person=0.999, perhaps=0.998).save(model)
    first, *others = make_faces(6)
    with served("--model", model, "--store", tmp_path / "faces.db") as (url, _):
        post(url, entry, [first, *others])
        post(url, entry, [first], device="door")
        page.driver.get(f"{url}/#token={local_token(url)}")
        page.until_decoded(3, 7)
        page.one("#grid .card[data-id='door-0'] .find").click()
        page.until("!document.getElementById('verdict').hidden")
        assert page.one("#verdict-word").text == "1 face of the same person"
        assert "1 stranger in 10,000 passes for the same person" in page.one("#verdict-error").text
        (card,) = page.all("#results .card")
        assert card.get_attribute("data-id") == "cam-0"
        assert card.find_element("css selector", ".likeness").text == "same person"
        assert page.one("#others-title").text == "5 faces of strangers, most alike first"
        assert not page.one("#others-list").is_displayed()
        page.one("#others-title").click()
        page.until("document.querySelectorAll('#others-list .card').length === 5")

        page.one("#others-list .card[data-id='cam-3'] .find").click()
        page.until("document.getElementById('verdict-word').textContent === 'Nobody here'")
        assert not page.all("#results .card")
        assert_named(page)
        for width, height in (PHONE, WIDE):
            page.size(width, height)
            assert page.run("document.documentElement.scrollWidth <= innerWidth")

        picture = tmp_path / "face.png"
        picture.write_bytes((Path(__file__).parents[3] / "edge_stscq/server/page/icon.svg").read_bytes())
        page.one("#picture-file").send_keys(str(picture))
        page.until("document.getElementById('search-note').textContent.includes('start it with --bundle')")
        assert not page.one("#verdict").is_displayed()

"""The page in a real browser: what an operator sees and does, and what axe says of it."""

import os
import re
import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest

from edge_stscq._local_servers import local_token
from edge_stscq._package_files import package_file
from edge_stscq.errors import MissingExtraError
from edge_stscq.server.auth.scope import Scope
from edge_stscq.server.auth.tokens import TokenStore
from edge_stscq.server.decoding.catalog import CatalogEntry
from edge_stscq.server.storage.face_store import FaceName
from edge_stscq.server.storage.sql_face_store import SqlFaceStore
from edge_stscq.stream import CodedFace
from tests.server.conftest import Served, local_bearer
from tests.support.installed import absent, need_module, need_program
from tests.support.stored_faces import Camera

FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--lang=en-US",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
)  # fmt: skip
WIDE, PHONE = (1280, 900), (390, 844)
PATIENCE = 60
TAB, ENTER, ESCAPE, DELETE, END, HOME = "\ue004", "\ue007", "\ue00c", "\ue017", "\ue010", "\ue011"
LEFT, UP, RIGHT, DOWN = "\ue012", "\ue013", "\ue014", "\ue015"
WCAG = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]

OVERLAPS = "bgOverlap", "elmPartiallyObscured", "elmPartiallyObscuring"
AXE = "axe-playwright-python", "axe_playwright_python/axe.min.js", "--no-deps -r networks.txt"

Send = Callable[..., None]


def axe_source() -> str:
    """The script of axe-core, from a package that is never imported."""
    try:
        return package_file(*AXE).read_text("utf-8")
    except MissingExtraError:
        absent("axe-core", "pip install --no-deps -r networks.txt")


class Page:
    """The page as an operator uses and sees it."""

    def __init__(self, driver: Any, downloads: Path) -> None:
        self.driver, self.downloads = driver, downloads

    def all(self, selector: str) -> list[Any]:
        return self.driver.find_elements("css selector", selector)

    def one(self, selector: str) -> Any:
        return self.driver.find_element("css selector", selector)

    def text(self, selector: str) -> str:
        return str(self.one(selector).text)

    def texts(self, selector: str) -> list[str]:
        return [one.text for one in self.all(selector)]

    def click(self, selector: str) -> None:
        self.until(f"document.querySelector({selector!r})?.getClientRects().length")
        self.one(selector).click()

    def run(self, script: str) -> Any:
        return self.driver.execute_script(f"return {script}")

    def until(self, script: str) -> Any:
        """Wait until the expression is true, and give its value."""
        from selenium.webdriver.support.ui import WebDriverWait

        return WebDriverWait(self.driver, PATIENCE, 0.05).until(lambda _: self.run(script), script)

    def until_text(self, selector: str, text: str) -> None:
        """Wait until an element's text has this in it."""
        self.until(f"document.querySelector({selector!r})?.textContent.includes({text!r})")

    def until_cards(self, count: int) -> None:
        """Wait until so many cards are in the list."""
        self.until(f"document.querySelectorAll('#days .card').length === {count}")

    def until_decoded(self, layers: int, count: int = 1) -> None:
        """Wait until `count` faces of the list are decoded from so many layers."""
        self.until(f"""document.querySelectorAll('#days img.there[data-layers="{layers}"]').length === {count}""")

    def keys(self, *keys: str) -> None:
        self.driver.switch_to.active_element.send_keys(*keys)

    def tab_to(self, selector: str) -> None:
        """Press Tab until the focus is there."""
        for _ in range(40):
            if self.run(f"document.activeElement.matches({selector!r})"):
                return
            self.keys(TAB)
        raise AssertionError(f"Tab does not lead to {selector}")

    def size(self, width: int, height: int) -> None:
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)

    def scheme(self, name: str) -> None:
        """Let the system be `light` or `dark`, and nothing move."""
        features = [
            {"name": "prefers-color-scheme", "value": name},
            {"name": "prefers-reduced-motion", "value": "reduce"},
        ]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})

    def complaints(self, *statuses: int) -> list[str]:
        """Messages of the console since the last look.

        Args:
            statuses: of answers that the test brings about; 503 of a picture is a busy decoder's, which is asked again.
        """
        lines = [line["message"] for line in self.driver.get_log("browser")]
        expected = "|".join(
            [r"\.png\?layers=\d+ - .* 503 ", *(rf"(status of|code:) {status}\b" for status in statuses)]
        )
        return [line for line in lines if not re.search(expected, line)]

    def axe(self) -> list[str]:
        """Violations of WCAG 2.2 AA and of axe's best practices, and contrasts that axe could not tell."""
        self.driver.execute_script(axe_source())
        found = self.driver.execute_async_script(
            "axe.run(document, {runOnly: {type: 'tag', values: arguments[0]}}).then(arguments[1])", WCAG
        )
        assert found["passes"], "axe looked at nothing"
        unsure = [rule for rule in found["incomplete"] if rule["id"] == "color-contrast"]
        return [
            f"{rule['id']}: {node['html'][:200]} {node['any'][:1]}"
            for rule in [*found["violations"], *unsure]
            for node in rule["nodes"]
            # Of texts of which one lies over another axe cannot tell; each is seen alone in another view.
            if rule not in unsure or node["any"][0]["data"]["messageKey"] not in OVERLAPS
        ]


@pytest.fixture(scope="package")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    need_module("selenium", "pip install 'edge-stscq[dev]'")
    chromium = need_program("chromium", "apt-get install chromium")
    chromedriver = need_program("chromedriver", "apt-get install chromium-driver")
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = str(chromium)
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('browser')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    service = webdriver.ChromeService(str(chromedriver), env={**os.environ, "NO_PROXY": "*"})
    driver = webdriver.Chrome(options=options, service=service)
    driver.set_script_timeout(PATIENCE)
    yield driver
    driver.quit()


@pytest.fixture
def page(browser: Any, tmp_path: Path) -> Page:
    """A new tab: the token that a page keeps is its tab's, and the server of the next test may be the same."""
    before = browser.window_handles
    browser.switch_to.new_window("tab")
    tab = browser.current_window_handle
    for old in before:
        browser.switch_to.window(old)
        browser.close()
    browser.switch_to.window(tab)
    downloads = tmp_path / "downloads"
    browser.execute_cdp_cmd("Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(downloads)})
    page = Page(browser, downloads)
    page.complaints()
    page.size(*WIDE)
    page.scheme("light")
    return page


@dataclass(frozen=True)
class Site:
    """A server that tests share, one after another, and the folder of its store."""

    url: str
    folder: Path

    @property
    def page(self) -> str:
        """Address of the page with the token of this machine."""
        return f"{self.url}/#token={local_token(self.url)}"

    def issue(self, device: str, *scopes: str) -> str:
        """A token for it."""
        with closing(TokenStore(self.folder / "tokens.db", create=False)) as tokens:
            return tokens.create(device, map(Scope, scopes))[1]

    def empty(self) -> "Site":
        """Erase all faces as if they had never been, and wait until their visits are gone."""
        with closing(SqlFaceStore(str(self.folder / "faces.db"))) as store:
            store.erase([FaceName(face.stream, face.sequence) for face in store.page(0, 10_000)], lasting=False)
        while self.ask("faces")["faces"] or self.ask("visits").get("visits"):
            pass
        return self

    def ask(self, what: str) -> dict[str, Any]:
        """JSON of a route."""
        answer = httpx2.get(f"{self.url}/v1/{what}", headers=local_bearer(self.url), timeout=PATIENCE)
        return dict(answer.json())


@pytest.fixture(scope="package")
def sites(served: Served, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Site]]:
    """`sites(*options)`: a server of the tiny model with these options, started once."""
    started: dict[tuple[str, ...], Site] = {}
    with ExitStack() as stack:

        def start(*options: str) -> Site:
            if options not in started:
                folder = tmp_path_factory.mktemp("site")
                place = "--model", tiny_model, "--store", folder / "faces.db"
                started[options] = Site(stack.enter_context(served(*place, *options))[0], folder)
            return started[options].empty()

        yield start


@pytest.fixture
def plain(sites: Callable[..., Site]) -> Site:
    """A server without a face, which groups none."""
    return sites()


@pytest.fixture
def grouping(sites: Callable[..., Site]) -> Site:
    """A server without a face that groups them; each visit is a person of its own, the model was never measured."""
    return sites("--persons")


def post(
    url: str, entry: CatalogEntry, faces: Sequence[CodedFace], first: int = 0, device: str = "cam", token: str = "-"
) -> None:
    """Send faces as they are captured now, none of a track."""
    shown = local_bearer(url) if token == "-" else {"Authorization": f"Bearer {token}"}
    headers = {"Edge-Device": device, "Edge-Sequence": str(first), **shown}
    body = entry.codec.encode_stream(faces)
    assert httpx2.post(f"{url}/v1/frames", content=body, headers=headers, timeout=PATIENCE).status_code == 200


@pytest.fixture
def send(entry: CatalogEntry) -> Send:
    """`send(url, [(face, track, captured_ms), ...], device="door-1")`: faces of tracks, each a visit."""
    cameras: dict[str, tuple[Camera, int]] = {}

    def make(url: str, seen: Sequence[tuple[CodedFace, int, int]], device: str = "door-1") -> None:
        camera, first = cameras.get(device, (Camera(entry.codec, device, secrets.token_bytes(16)), 0))
        cameras[device] = camera, first + len(seen)
        frames = [
            camera.frame(face, number, captured_ms, track=track, quality=80)
            for number, (face, track, captured_ms) in enumerate(seen, first)
        ]
        headers = {"Edge-Device": device, **local_bearer(url)}
        answer = httpx2.post(f"{url}/v2/frames", content=camera.file(*frames), headers=headers, timeout=PATIENCE)
        assert answer.status_code == 200, answer.text

    return make

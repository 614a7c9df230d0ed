"""An operator finds out who is in a picture: coded by the released bundle, named where found, in a real browser."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from demo_camera.sample_portraits import portraits
from edge_stscq._images import encode_image, read_image
from edge_stscq._local_servers import local_token
from edge_stscq.bundle import open_bundle
from edge_stscq.device.detect import Detector
from edge_stscq.device.encoder import load_encoder
from edge_stscq.device.quality.gate import QualityGate
from edge_stscq.server.decoding.catalog import ModelCatalog
from edge_stscq.stream import CodedFace
from tests.server.conftest import Served
from tests.server.page.conftest import PHONE, Page, post
from tests.support.models.released import Released

pytestmark = pytest.mark.slow
PEOPLE = "grace_hopper", "astronaut"


@pytest.fixture(scope="module")
def seen(released: Released) -> list[CodedFace]:
    """Two people as a camera codes them."""
    encoder, detector = load_encoder(open_bundle(released.bundle)), Detector()
    pictures = [read_image(portraits()[name]) for name in PEOPLE]
    gate = QualityGate(detector)
    return [encoder.encode(gate.judge(picture, detector.faces(picture)[0]).crop) for picture in pictures]


def test_who_is_in_a_picture_is_found_named_and_deleted(
    served: Served, page: Page, released: Released, model_dir: Path, seen: list[CodedFace], tmp_path: Path
) -> None:
    """By another picture of one of them, darker and turned; by a picture without a face."""
    (entry,) = ModelCatalog([model_dir])
    portrait = read_image(portraits()["grace_hopper"])
    height, width = portrait.shape[:2]
    turned = cv2.warpAffine(portrait, cv2.getRotationMatrix2D((width / 2, height / 2), 5, 0.9), (width, height))
    (tmp_path / "again.png").write_bytes(encode_image((turned * 0.85).astype(np.uint8)))
    (tmp_path / "wall.png").write_bytes(encode_image(np.full((300, 300, 3), 90, np.uint8)))
    place = "--model", model_dir, "--bundle", released.bundle, "--store", tmp_path / "faces.db", "--persons"
    with served(*place) as (url, _):
        post(url, entry, seen[:1], device="door")
        post(url, entry, seen[1:], device="hall")
        page.driver.get(f"{url}/#token={local_token(url)}")
        page.until_cards(2)
        page.one("#picture-file").send_keys(str(tmp_path / "again.png"))
        page.until_text("#search-title", "Who is in again.png")
        page.until_text("#verdict", "1 visit of the same person")
        assert "door" in page.text("#results .card")
        assert page.text("#others-title").startswith("1 stranger")
        page.until("document.getElementById('example').naturalWidth === 256")  # the face that was cut out
        for name, shown in (("Grace", "1 visit of Grace"), ("Admiral Hopper", "1 visit of Admiral Hopper")):
            page.click("#results .open")
            assert (page.text("#newer"), page.text("#older")) == ("Previous", "Next")
            page.one("#name").clear()
            page.one("#name").send_keys(name)
            page.click("#name-form button")
            page.until_text("#verdict", shown)
            page.click("#detail-close")
            assert page.text("#results .who") == name
        page.size(*PHONE)
        assert page.run("document.documentElement.scrollWidth <= innerWidth")
        assert page.axe() == []
        page.click("#results .open")
        page.click("#delete")
        page.click("#sure-yes")
        page.until_text("#verdict", "Nobody here")
        page.one("#picture-file").send_keys(str(tmp_path / "wall.png"))
        page.until_text("#search-note", "no face found")
        assert page.complaints(404, 422) == []

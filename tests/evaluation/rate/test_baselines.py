"""Every peer codes and gives back pictures, and counts its bytes as it says."""

import importlib.util

import numpy as np
import pytest

from edge_stscq.errors import EdgeError, MissingExtraError
from edge_stscq.evaluation.metrics import psnr, squared_error
from edge_stscq.evaluation.rate import baselines
from edge_stscq.evaluation.rate.baselines import BASELINES, BaselineCodec
from tests.support.installed import absent, need_module


@pytest.fixture(scope="module")
def crops() -> np.ndarray:
    """Three smooth pictures with an edge in them, uint8 [3,128,128,3]."""
    y, x = np.mgrid[0:128, 0:128] / 127
    waves = [np.stack([np.sin(3 * x + k), np.cos(4 * y * k), x * y + (x > 0.5)], axis=-1) for k in (1, 2, 3)]
    return np.clip(110 + 70 * np.stack(waves), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("peer", BASELINES, ids=lambda peer: peer.name)
def test_more_bytes_give_a_better_picture(peer: BaselineCodec, crops: np.ndarray) -> None:
    if importlib.util.find_spec(peer.module) is None:
        absent(peer.package, "pip install 'edge-stscq[bench]'")
    qualities = list(dict.fromkeys(quality for _, quality in peer.settings))
    coded = [peer.run(crops, 64, quality) for quality in qualities]
    for one in coded:
        assert one.images.shape == crops.shape
        assert one.images.dtype == np.uint8
        assert (one.payload > 0).all()
        assert (one.payload <= one.container).all()
    errors = [float(squared_error(crops, one.images).mean()) for one in coded]
    sizes = [int(one.payload.sum()) for one in coded]
    assert np.argmin(errors) == np.argmax(sizes)
    assert psnr(np.array(min(errors))) > 25


@pytest.mark.parametrize("peer", [p for p in BASELINES if "intra" in p.name], ids=lambda peer: peer.name)
def test_frames_of_a_stream_stand_alone(peer: BaselineCodec, crops: np.ndarray) -> None:
    """Intra-coded: in another order the same pictures come back, and headers cost every one of them the same."""
    need_module(peer.module, "pip install 'edge-stscq[bench]'")
    there, back = peer.run(crops, 48, 38), peer.run(crops[::-1], 48, 38)
    error = squared_error(there.images, back.images[::-1])
    assert (psnr(np.maximum(error, 1e-9)) > 30).all()
    assert np.ptp((there.container - there.payload)[1:]) <= 2


def test_known_headers_are_left_out(crops: np.ndarray) -> None:
    """RIFF and chunk header of WebP are 20 bytes; a JPEG XL codestream has none."""
    webp, jxl = baselines.find(["webp"])[0].run(crops, 32, 20), baselines.find(["JPEG XL"])[0].run(crops, 32, 40)
    assert (webp.container - webp.payload <= 21).all()
    assert (webp.container - webp.payload >= 20).all()
    assert (jxl.container == jxl.payload).all()


def test_names_are_found_as_people_write_them() -> None:
    assert [peer.name for peer in baselines.find(["jpeg2000", "hevc", "VVC-intra"])] == [
        "JPEG 2000", "HEVC intra", "VVC intra",
    ]  # fmt: skip
    assert baselines.find([]) == BASELINES
    with pytest.raises(EdgeError, match="unknown codec 'gif'; choose from JPEG, "):
        baselines.find(["gif"])


def test_a_missing_package_is_named(crops: np.ndarray) -> None:
    absent = BaselineCodec("none", "no-such-package", "no_such_module", ((32, 1),), BASELINES[0].code)
    with pytest.raises(MissingExtraError, match=r"pip install 'edge-stscq\[bench\]'"):
        absent.run(crops, 32, 1)

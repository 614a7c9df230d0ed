"""Fixtures shared by all tests."""

import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from edge_stscq._released import MODEL

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from edge_stscq.data.loader import FaceSet
    from edge_stscq.device.detect import Detector
    from tests.support.models.calibrated_model import Calibrated
    from tests.support.models.released import Released

REPOSITORY = Path(__file__).resolve().parent.parent


def pytest_configure(config: pytest.Config) -> None:
    # What ignores these signals (nohup, a shell in the background) would hand that on to all that tests start.
    for number, ordinary in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, ordinary)
    # Tests start many processes: what one has compiled is there for the next, whatever the shell says.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    sys.dont_write_bytecode = False
    config.addinivalue_line("markers", "slow: takes more than ten seconds; a run begins with it")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that hold a slow test, so that no worker waits long for the last file of the other."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture(scope="session", autouse=True)
def state_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Notes of servers that tests start are not the user's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        yield


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder with real faces, pairs and recognisers; tests that need it are skipped where it is absent."""
    folder = Path(os.environ.get("EDGE_STSCQ_DATA", REPOSITORY.parent / "shared" / "data"))
    if not (folder / "faces" / "val.tar").exists():
        pytest.skip(f"no real faces at {folder}; set EDGE_STSCQ_DATA to run this test")
    return folder


@pytest.fixture(scope="session")
def model_dir() -> Path:
    """The released model."""
    return REPOSITORY / "models" / MODEL


@pytest.fixture(scope="session")
def model_of_format_1() -> Path:
    """A model whose configuration and recipe have three fields for its layers."""
    return REPOSITORY / "models" / "face64"


@pytest.fixture(scope="session")
def released(tmp_path_factory: pytest.TempPathFactory) -> "Released":
    """The released model as this machine exports and publishes it, for all workers; not to be written to."""
    from tests.support.models.released import Released, release_here
    from tests.support.once import made_once

    return Released(made_once(tmp_path_factory, "released", release_here))


@pytest.fixture(scope="session")
def golden(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with `model/` of fixed weights and its `bundles/`, whose bytes the lock knows; not to be written to."""
    from tests.support.models.golden_model import make_golden
    from tests.support.once import made_once

    return made_once(tmp_path_factory, "golden", make_golden)


@pytest.fixture(scope="session")
def integer_bundles(integer_model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Int8 bundles of `integer_model` by the name of the target; not to be written to."""
    from targets import TARGETS
    from targets.captured import capture_model
    from targets.writer import write_bundle
    from tests.support.once import made_once

    def make(folder: Path) -> None:
        source = capture_model(integer_model, "int8")
        for target in TARGETS:
            write_bundle(source, target, folder / f"{target.name}-int8")

    place = made_once(tmp_path_factory, "integer-bundles", make)
    return {target.name: place / f"{target.name}-int8" for target in TARGETS}


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A complete model of random weights, small enough to export in seconds, whose student uses both groups."""
    from tests.support.models.tiny_model import write_tiny_model

    return write_tiny_model(tmp_path_factory.mktemp("model") / "tiny", ("basic", "middle", "enhanced"))


@pytest.fixture(scope="session")
def tiny_bundle(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Bundle `onnx-fp32` of `tiny_model`; not to be written to."""
    from tests.support.installed import need_module
    from tests.support.once import made_once

    need_module("executorch", "pip install 'edge-stscq[executorch]'")
    need_module("onnxscript", "pip install 'edge-stscq[onnx]'")
    from targets import find
    from targets.captured import capture_model
    from targets.writer import write_bundle

    def make(folder: Path) -> None:
        write_bundle(capture_model(tiny_model, "fp32"), find("onnx")[0], folder / "onnx-fp32")

    return made_once(tmp_path_factory, "tiny-bundle", make) / "onnx-fp32"


@pytest.fixture(scope="session")
def calibrated(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> "Calibrated":
    """A copy of `tiny_model` whose tokens depend on every layer, calibrated; its folder is not to be written to."""
    from tests.support.models.calibrated_model import read_calibrated_model, write_calibrated_model
    from tests.support.once import made_once

    return read_calibrated_model(
        made_once(tmp_path_factory, "calibrated", lambda place: write_calibrated_model(tiny_model, place))
    )


@pytest.fixture(scope="session", params=[1, 4, 15])
def layered_model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As `tiny_model`, of 1, 4 and 15 layers."""
    from tests.support.models.tiny_model import write_tiny_model

    count: int = request.param
    names = [f"layer-{number + 1}" for number in range(count)]
    return write_tiny_model(tmp_path_factory.mktemp("model") / f"tiny{count}", names)


@pytest.fixture(scope="session")
def integer_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A complete model of random weights whose student is made for integers and uses both groups."""
    from tests.support.models.integer_model import write_integer_model

    return write_integer_model(tmp_path_factory.mktemp("model") / "tiny-integer")


@pytest.fixture(scope="session")
def four_layer_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As `tiny_model`, of four layers."""
    from tests.support.models.tiny_model import write_tiny_model

    return write_tiny_model(tmp_path_factory.mktemp("model") / "tiny4", ("basic", "middle", "enhanced", "fine"))


@pytest.fixture
def sums_bundle(tmp_path: Path) -> Path:
    """A bundle whose answers are known without any runtime."""
    from tests.support.bundles.sums_bundle import write_sums_bundle

    return write_sums_bundle(tmp_path / "bundle")


@pytest.fixture
def make_sums_bundle(tmp_path: Path) -> Callable[..., Path]:
    """`make_sums_bundle(artefact=..., field=value, ...)` writes a bundle with other fields in its manifest."""
    from tests.support.bundles.sums_bundle import write_sums_bundle

    return lambda **arguments: write_sums_bundle(tmp_path / "bundle", **arguments)


@pytest.fixture
def crop() -> "NDArray[np.uint8]":
    """A crop of noise, uint8 [128, 128, 3]."""
    import numpy as np

    return np.random.default_rng(7).integers(0, 256, (128, 128, 3), np.uint8)


@pytest.fixture(scope="session")
def detector() -> "Detector":
    from edge_stscq.device.detect import Detector

    return Detector()


@pytest.fixture(scope="session")
def portrait() -> dict[str, Path]:
    """Files of two public-domain portraits by name."""
    from demo_camera.sample_portraits import portraits

    return portraits()


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty-four 144-px pictures of blobs, no two alike."""
    import cv2
    import numpy as np

    folder = tmp_path_factory.mktemp("pictures")
    random = np.random.default_rng(0)
    for index in range(24):
        blobs = random.integers(0, 256, (6, 6, 3), dtype=np.uint8)
        image = cv2.resize(blobs, (144, 144), interpolation=cv2.INTER_CUBIC)
        cv2.imwrite(str(folder / f"{index:02d}.png"), image)
    return folder


@pytest.fixture(scope="session")
def faces(pictures: Path) -> "FaceSet":
    from edge_stscq.data.loader import FaceSet

    return FaceSet([pictures])

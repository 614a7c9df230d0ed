"""Fixtures shared by all tests."""

import os
from collections.abc import Sequence
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent


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
    return REPOSITORY / "models" / "face64"


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A complete model of random weights, small enough to export in seconds, whose student uses both groups."""
    return make_tiny(tmp_path_factory.mktemp("model") / "tiny", ("basic", "middle", "enhanced"))


@pytest.fixture(scope="session", params=[1, 4, 15])
def layered_model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As `tiny_model`, of 1, 4 and 15 layers."""
    count: int = request.param
    return make_tiny(tmp_path_factory.mktemp("model") / f"tiny{count}", [f"layer-{n + 1}" for n in range(count)])


@pytest.fixture(scope="session")
def integer_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A complete model of random weights whose student is made for integers and uses both groups."""
    from tests.support.integer_model import write_integer_model

    return write_integer_model(tmp_path_factory.mktemp("model") / "tiny-integer")


@pytest.fixture(scope="session")
def four_layer_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As `tiny_model`, of four layers."""
    return make_tiny(tmp_path_factory.mktemp("model") / "tiny4", ("basic", "middle", "enhanced", "fine"))


def make_tiny(folder: Path, names: Sequence[str]) -> Path:
    """Write a complete model of random weights with these layers, small enough to export in seconds."""
    import numpy as np
    import torch

    from edge_stscq.codec.config import CodecConfig, LayerConfig
    from edge_stscq.codec.store import create, load_student, save_student
    from targets.golden import candidates

    layers = tuple(LayerConfig(name=name, identity=2, spatial=2, identity_dims=8) for name in names)
    config = CodecConfig(
        name="tiny", groups=2, entries=16, dim=4, layers=layers, thumbnail=16,
        teacher_width=16, student_width=16, student_trunk=(8,) * 6, decoder_channels=(16, 16, 8, 8), style_dim=16,
    )  # fmt: skip
    create(folder, config)
    student = load_student(folder)
    logits = student.analyse(torch.from_numpy(np.stack(candidates(32)))).group_logits
    student.router.layers[-1].bias -= logits.median(0).values
    save_student(folder, student)
    return folder

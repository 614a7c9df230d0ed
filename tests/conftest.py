"""Fixtures shared by all tests."""

import os
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
    import numpy as np
    import torch

    from edge_stscq.codec.store import create, load_student, save_student
    from edge_stscq.config.codec import CodecConfig, LayerConfig
    from targets.golden import candidates

    folder = tmp_path_factory.mktemp("model") / "tiny"
    layer = LayerConfig(identity=2, spatial=2, identity_dims=8)
    config = CodecConfig(
        name="tiny", groups=2, entries=16, dim=4, basic=layer, middle=layer, enhanced=layer, thumbnail=16,
        teacher_width=16, student_width=16, student_trunk=(8,) * 6, decoder_channels=(16, 16, 8, 8), style_dim=16,
    )  # fmt: skip
    create(folder, config)
    student = load_student(folder)
    logits = student.analyse(torch.from_numpy(np.stack(candidates(32)))).group_logits
    student.router.layers[-1].bias -= logits.median(0).values
    save_student(folder, student)
    return folder

"""The released model on two real portraits: needs nothing but the repository and the packages it depends on."""

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from demo_camera.sample_portraits import portraits
from edge_stscq._images import read_image
from edge_stscq.codec import store
from edge_stscq.codec.matching import Matcher
from edge_stscq.codec.model import Codec
from edge_stscq.device.crop import crop_face
from edge_stscq.device.detect import Detector
from edge_stscq.evaluation.artifact import coded_by, in_full_precision
from tests.support.commands import run_commands
from tests.support.installed import need_module
from tests.support.models.released import Released

need_module("executorch", "pip install 'edge-stscq[executorch]'")


@pytest.fixture(scope="module")
def crops() -> torch.Tensor:
    """Each portrait and its mirror image, uint8 [4, 128, 128, 3]."""
    detector = Detector()
    found = []
    for name in sorted(portraits()):
        picture = read_image(portraits()[name])
        face = detector.largest(picture)
        assert face is not None
        crop = crop_face(picture, face.points)
        found += [crop, crop[:, ::-1]]
    return torch.from_numpy(np.stack(found))


def test_files_are_small_enough_to_be_kept(model_dir: Path) -> None:
    sizes = {path.name: path.stat().st_size for path in model_dir.iterdir()}
    assert {"MODEL_CARD.md", "recipe.toml", "log.jsonl", "thresholds.json", "cohort.safetensors"} <= sizes.keys()
    assert max(sizes.values()) < 20e6


def test_a_mirrored_face_matches_and_another_does_not(model_dir: Path, crops: torch.Tensor) -> None:
    student, match = store.load_student(model_dir), Matcher.load(model_dir)
    group, tokens = student(crops)
    for layers in range(1, len(student.config.layers) + 1):
        unit = match(group, tokens, layers)
        similar = unit @ unit.t()
        assert float(min(similar[0, 1], similar[2, 3])) > float(similar[:2, 2:].max()) + 0.1


def test_every_layer_brings_the_picture_closer(model_dir: Path, crops: torch.Tensor) -> None:
    student, decoder = store.load_student(model_dir), store.load_decoder(model_dir)
    group, tokens = student(crops)
    layers = range(1, len(student.config.layers) + 1)
    errors = [float((decoder.decode(group, tokens, n).float() - crops.float()).square().mean()) for n in layers]
    assert all(fewer > more for fewer, more in pairwise(errors))
    mean_face = float((crops.float() - crops.float().mean((0, 1, 2))).square().mean())
    assert errors[-1] < 0.5 * mean_face


def test_int8_decodes_to_nearly_the_same_picture(model_dir: Path, released: Released, crops: torch.Tensor) -> None:
    codec, pictures = in_full_precision(Codec.load(model_dir)), crops.numpy()
    full, device = (each.decode(each.encode(pictures)) for each in (codec, coded_by(codec, released.bundle)))
    assert float(10 * np.log10(255**2 / np.square(full.astype(float) - device).mean())) > 26


@pytest.mark.slow
def test_the_exported_bundle_stays_above_the_floor(model_dir: Path, released: Released) -> None:
    """That one below it fails, `tests/cli/test_parity.py` shows."""
    (done,) = run_commands(("parity", released.bundle, "--model", model_dir, "--floor", "--json"))
    assert done.returncode == 0, done.stderr
    checks = json.loads(done.stdout)["checks"]
    assert checks
    assert all(check["passed"] for check in checks)

"""Model of fixed weights and a committed calibration, and its bundles: bytes that every machine must give alike.

The calibration keeps a few layers in float32, so that every target lowers both kinds and what lies between them.
"""

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from edge_stscq.bundle.manifest import Precision
from edge_stscq.codec.store import create, load_student
from edge_stscq.config.codec import CodecConfig
from quantization import calibrate
from targets import TARGETS
from targets.captured import capture_model
from targets.golden import candidates
from targets.writer import bundle_folder, write_bundle

GOLDEN = Path(__file__).parents[2] / "golden" / "lock"
GENERATE = bool(os.environ.get("GENERATE_EXPECTED"))
GRID = 2**10
CALIBRATION = "calibration.safetensors"
KEPT = ("identity.features.0", "identity.features.26", "identity.features.52", "spatial.0", "spatial.10")
"""The first, a middle and the last layer of the trunk, and both ends of the spatial network."""
LAYER = {"identity": 2, "spatial": 2, "identity_dims": 8}
CONFIG = {
    "name": "lock", "groups": 2, "entries": 16, "dim": 4, "basic": LAYER, "middle": LAYER, "enhanced": LAYER,
    "thumbnail": 16, "teacher_width": 16, "student_width": 16, "student_trunk": [8] * 6,
    "decoder_channels": [16, 16, 8, 8], "style_dim": 16,
}  # fmt: skip
"""As a model folder has it: folders of earlier versions stay readable."""
PRECISIONS: dict[Precision, tuple[str, ...]] = {
    "int8": tuple(target.name for target in TARGETS), "w8": ("onnx",), "fp32": ("onnx",)
}  # fmt: skip
"""Targets by precision: the other targets' float graphs take long and differ from ONNX's in what int8 shows as well."""


def make_golden(folder: Path) -> None:
    """Write `model/`, whose weights are multiples of 1/1024, and its `bundles/`."""
    model = folder / "model"
    write_golden_model(model)
    for precision, names in PRECISIONS.items():
        source = capture_model(model, precision)
        for target in TARGETS:
            if target.name in names:
                write_bundle(source, target, bundle_folder(folder / "bundles", target, precision))


def _fixed_projection(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Drawn whole numbers for the projection: eigenvectors of random faces hang on the last bits of the processor."""
    random = np.random.default_rng(0)
    return {
        key: torch.from_numpy(random.integers(-GRID // 8, GRID // 8, tuple(value.shape))).to(value.dtype) / GRID
        * (value.abs().sum(0) > 0)
        for key, value in state.items()
        if key.endswith("identity.projection")
    }  # fmt: skip


def write_golden_model(folder: Path) -> None:
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(CONFIG))
    create(folder, CodecConfig.load(folder / "config.json"))
    for name in ("identity", "teacher", "student", "decoder", "codebooks"):
        path = folder / f"{name}.safetensors"
        rounded = {
            key: (value.double() * GRID).round().div(GRID).to(value.dtype) if value.is_floating_point() else value
            for key, value in load_file(path).items()
        }
        save_file(rounded | _fixed_projection(rounded), path)
    if GENERATE:
        replace(calibrate(load_student(folder), candidates(8)), kept=KEPT).save(GOLDEN)
    shutil.copyfile(GOLDEN / CALIBRATION, folder / CALIBRATION)

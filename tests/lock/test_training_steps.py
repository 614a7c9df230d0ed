"""One step of each training task gives the golden figures to three digits (processors differ in the others)."""

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from tests.support.commands import run_commands

CHANNELS = (32, 64, 128, 256, 512, 1024)
BLOCKS = (1, 2, 2, 3, 3, *[4] * 6, 5, 5)
"""Index into the channels of each depthwise-separable block of the recognizer."""

RECIPE = """
faces = ["pictures"]
recogniser = "sface.safetensors"
batch = 4
latents = 100

[codec]
name = "lock"
groups = 2
entries = 4
dim = 4
basic = { identity = 2, spatial = 2, identity_dims = 8 }
middle = { identity = 2, spatial = 2, identity_dims = 8 }
enhanced = { identity = 0, spatial = 2 }
teacher_width = 16
student_width = 16
student_trunk = [8, 8, 8, 8, 8, 8]
decoder_channels = [16, 16, 8, 8]
style_dim = 16

[[stages]]
name = "shared"
tokens = "shared"
steps = 1
size = 32

[[stages]]
name = "specific"
tokens = "specific"
steps = 1
size = 32
losses = { smooth = 0.5 }

[[stages]]
name = "decoder"
tokens = "frozen"
steps = 1
size = 32
losses = { adversarial = 0.1 }

[distillation]
identity_steps = 1
token_steps = 1
blends = 0.5
batch = 4

[finetuning]
steps = 1
batch = 4
noise = 0.05
losses = { smooth = 1.0 }
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty-four pictures of blobs, and a recognizer of random weights in the layout of SFace's file."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "recipe.toml").write_text(RECIPE)
    (folder / "pictures").mkdir()
    random = np.random.default_rng(0)
    for index in range(24):
        blobs = random.integers(0, 256, (6, 6, 3), dtype=np.uint8)
        cv2.imwrite(str(folder / "pictures" / f"{index:02d}.png"), cv2.resize(blobs, (144, 144)))
    save_file(sface(random), folder / "sface.safetensors")
    return folder


def sface(random: np.random.Generator) -> dict[str, torch.Tensor]:
    """Layers `body.<i>.*` of the recognizer's file: convolution, batch norm and PReLU in turn, then the embedding."""
    shapes = [(CHANNELS[0], 3, 3)]
    for index in BLOCKS:
        width = shapes[-1][0]
        shapes += [(width, 1, 3), (CHANNELS[index], width, 1)]
    state: dict[str, torch.Tensor] = {}

    def norm(layer: int, width: int) -> None:
        for name, value in (("weight", 1.0), ("bias", 0.0), ("running_mean", 0.0), ("running_var", 1.0)):
            state[f"body.{layer}.{name}"] = torch.full((width,), value)
        state[f"body.{layer}.num_batches_tracked"] = torch.tensor(0)

    for index, (outputs, inputs, kernel) in enumerate(shapes):
        spread = (2 / (inputs * kernel**2)) ** 0.5
        weight = random.standard_normal((outputs, inputs, kernel, kernel)) * spread
        state[f"body.{3 * index}.weight"] = torch.from_numpy(weight).float()
        norm(3 * index + 1, outputs)
        state[f"body.{3 * index + 2}.weight"] = torch.full((outputs,), 0.25)
    last, flat = 3 * len(shapes), shapes[-1][0] * 49
    norm(last, shapes[-1][0])
    state[f"body.{last + 2}.weight"] = torch.from_numpy(random.standard_normal((128, flat)) * flat**-0.5).float()
    state[f"body.{last + 2}.bias"] = torch.zeros(128)
    norm(last + 3, 128)
    return state


@pytest.mark.slow
def test_one_step_of_each_task_gives_the_golden_figures(data: Path, tmp_path: Path, expected: Any) -> None:
    common = ("--recipe", data / "recipe.toml", "--data", data, "-o", tmp_path, "--threads", 1)
    distill = ("distill", *common, "--model", tmp_path / "decoder" / "model")
    finetune = ("finetune", *common, "--model", tmp_path / "distilled")
    for done in run_commands(("train", *common), distill, finetune):
        assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in (tmp_path / "model" / "log.jsonl").read_text().splitlines()]
    found = {row.pop("stage"): row for row in rows}
    for row in found.values():
        del row["images_per_s"]
    golden = expected("training", found)
    assert found.keys() == golden.keys()
    for stage, row in golden.items():
        assert found[stage] == pytest.approx(row, rel=5e-3, abs=5e-4), stage

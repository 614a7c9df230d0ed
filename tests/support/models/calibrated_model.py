"""A tiny student, calibrated on drawn pictures."""

import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from edge_stscq.codec.encoder import EdgeEncoder
from edge_stscq.codec.store import load_student, save_student
from quantization import Calibration, calibrate
from targets.golden import candidates


@dataclass(frozen=True)
class Calibrated:
    """A folder that holds no calibration, its student, the pictures, and the calibration on them."""

    folder: Path
    student: EdgeEncoder
    pictures: NDArray[np.uint8]
    calibration: Calibration


def read_calibrated_model(place: Path) -> Calibrated:
    """Read what `write_calibrated_model` wrote."""
    folder = place / "tiny"
    return Calibrated(folder, load_student(folder), _pictures(), Calibration.load(place))


def _pictures() -> NDArray[np.uint8]:
    return np.stack(candidates(11))


def write_calibrated_model(tiny_model: Path, place: Path) -> None:
    """Copy a model to `tiny` in a folder, and write its calibration beside that.

    Its weights keep activations at one scale through all layers, so that tokens depend on every one of them.
    """
    folder = place / "tiny"
    shutil.copytree(tiny_model, folder)
    student = load_student(folder)
    assert student.head.pixels is not None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        for module in student.backbone.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                if module.bias is not None:
                    module.bias.normal_(0, 0.1)
        student.head.pixels.mul_(0.1)
    save_student(folder, student)
    calibrate(load_student(folder), _pictures()).save(place)

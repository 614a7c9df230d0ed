"""Equalisation changes the ranges and nothing else."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from edge_stscq.codec.encoder import normalize_image
from quantization import calibrate, equalize, quantized_encoder
from quantization.ranges import Histogram, aligned
from tests.support.models.calibrated_model import Calibrated


def test_unequal_channels_become_alike_and_the_function_stays(calibrated: Calibrated) -> None:
    torch.manual_seed(0)
    student, images = copy.deepcopy(calibrated.student), torch.from_numpy(calibrated.pictures)
    student.requires_grad_(False)
    for layer in student.backbone.spatial:
        if isinstance(layer, nn.Conv2d):
            scale = torch.exp(2 * torch.randn(layer.out_channels))
            layer.weight.mul_(scale.view(-1, 1, 1, 1))
            layer.bias.add_(0.1).mul_(scale)
    before = student.analyse(images).z
    noise = _noise(student, calibrated, before)
    equalize(student, images)
    after = student.analyse(images).z
    torch.testing.assert_close(after, before, atol=1e-3 * float(before.abs().max()), rtol=1e-3)
    assert _noise(student, calibrated, after) < 0.5 * noise


def _noise(student: object, calibrated: Calibrated, z: torch.Tensor) -> float:
    quantized = quantized_encoder(student, calibrate(student, calibrated.pictures))  # type: ignore[arg-type]
    outputs = torch.cat([quantized.analyse(torch.from_numpy(picture)[None]).z for picture in calibrated.pictures])
    return float((outputs - z).square().mean())


def test_the_backbone_itself_keeps_its_embedding(calibrated: Calibrated) -> None:
    student = copy.deepcopy(calibrated.student).requires_grad_(False)
    image = normalize_image(torch.from_numpy(calibrated.pictures))
    before = student.backbone(image)[0]
    equalize(student, torch.from_numpy(calibrated.pictures))
    torch.testing.assert_close(student.backbone(image)[0], before, atol=1e-4, rtol=1e-3)


def test_ranges_become_powers_of_two_at_no_cost(calibrated: Calibrated) -> None:
    """Before alignment the nearest power of two is up to 1.41 away; after it, float16 biases apart, it is the range."""
    student, images = copy.deepcopy(calibrated.student).requires_grad_(False), torch.from_numpy(calibrated.pictures)
    equalize(student, images)
    relus = {module: Histogram() for module in student.backbone.modules() if isinstance(module, nn.ReLU)}
    hooks = [
        relu.register_forward_hook(lambda _, __, output, histogram=histogram: histogram(output))
        for relu, histogram in relus.items()
    ]
    student.backbone(normalize_image(images))
    for hook in hooks:
        hook.remove()
    for histogram in relus.values():
        low, high = histogram.range("mse", 100)
        assert low == 0
        assert aligned(low, high)[1] == pytest.approx(high, rel=0.01)
    ranges = calibrate(student, calibrated.pictures).ranges
    steps = [float(high) / 255 for name, (low, high) in ranges.items() if "relu" in name and low == 0]
    assert len(steps) >= len(relus)
    assert all(np.log2(step) % 1 == 0 for step in steps)

"""Equalisation changes the ranges and nothing else."""

import copy

import torch
from torch import nn

from edge_stscq.codec.encoder import normalise_image
from quantization import calibrate, equalise, quantized_encoder
from tests.quantization.conftest import Calibrated


def test_unequal_channels_become_alike_and_the_function_stays(calibrated: Calibrated) -> None:
    torch.manual_seed(0)
    student, images = copy.deepcopy(calibrated.student), torch.from_numpy(calibrated.pictures)
    student.requires_grad_(False)
    norms = [module for module in student.backbone.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        scale = torch.exp(2 * torch.randn(norm.num_features))
        norm.weight.mul_(scale)
        norm.bias.add_(0.1).mul_(scale)
    before = student.analyse(images).z
    noise = _noise(student, calibrated, before)
    equalise(student, images)
    after = student.analyse(images).z
    torch.testing.assert_close(after, before, atol=1e-3 * float(before.abs().max()), rtol=1e-3)
    assert _noise(student, calibrated, after) < 0.5 * noise


def _noise(student: object, calibrated: Calibrated, z: torch.Tensor) -> float:
    quantised = quantized_encoder(student, calibrate(student, calibrated.pictures))  # type: ignore[arg-type]
    outputs = torch.cat([quantised.analyse(torch.from_numpy(picture)[None]).z for picture in calibrated.pictures])
    return float((outputs - z).square().mean())


def test_the_backbone_itself_keeps_its_embedding(calibrated: Calibrated) -> None:
    student = copy.deepcopy(calibrated.student).requires_grad_(False)
    image = normalise_image(torch.from_numpy(calibrated.pictures))
    before = student.backbone(image)[0]
    equalise(student, torch.from_numpy(calibrated.pictures))
    torch.testing.assert_close(student.backbone(image)[0], before, atol=1e-4, rtol=1e-3)

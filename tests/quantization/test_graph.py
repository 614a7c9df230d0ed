"""Precision of each operator in the quantised graph, which still computes the same tokens."""

from collections import Counter

import numpy as np
import pytest
import torch
from torch import nn
from torch.export import ExportedProgram
from torch.fx import Node

from quantization import capture, captured_graph, quantized_encoder
from tests.support.models.calibrated_model import Calibrated

QUANTIZE = "quantize_per_tensor"


@pytest.fixture(scope="module")
def program(calibrated: Calibrated) -> ExportedProgram:
    return capture(calibrated.student, "int8", calibrated.calibration).program


def _calls(program: ExportedProgram, name: str) -> list[Node]:
    return [n for n in program.graph.nodes if n.op == "call_function" and name in str(n.target)]


def _dequantized(node: object) -> bool:
    return isinstance(node, Node) and "dequantize" in str(node.target)


def test_every_convolution_is_int8(calibrated: Calibrated, program: ExportedProgram) -> None:
    convolutions = [m for m in calibrated.student.backbone.modules() if isinstance(m, nn.Conv2d)]
    found = _calls(program, "aten.conv2d")
    assert len(found) == len(convolutions)
    assert all(_dequantized(node.args[0]) and _dequantized(node.args[1]) for node in found)
    per_channel = _calls(program, "dequantize_per_channel")
    linear = [m for m in calibrated.student.backbone.modules() if isinstance(m, nn.Linear)]
    assert len(per_channel) == len(convolutions) + len(linear)


def test_weights_are_stored_as_int8(program: ExportedProgram) -> None:
    weights = [t for t in program.state_dict.values() if t.dtype == torch.int8]
    assert len(weights) == len(_calls(program, "dequantize_per_channel"))


def test_nothing_behind_the_backbone_is_quantized(program: ExportedProgram) -> None:
    """Only the embedding and the features leave the backbone as int8: two tensors that feed no integer kernel."""
    users = [u for q in _calls(program, f".{QUANTIZE}") for dq in q.users for u in dq.users]
    kinds = Counter(str(user.target) for user in users)
    inside = {"aten.conv2d.default", "aten.linear.default", "aten.flatten.using_ints"}
    assert sum(count for kind, count in kinds.items() if kind not in inside) <= 4
    matmuls = _calls(program, "aten.matmul")
    assert matmuls
    assert not any(_dequantized(argument) for node in matmuls for argument in node.args)


def test_constants_are_folded(program: ExportedProgram) -> None:
    assert not _calls(program, "aten.exp")
    assert not _calls(program, "aten.arange")


def test_graph_computes_what_the_quantized_encoder_computes(calibrated: Calibrated, program: ExportedProgram) -> None:
    encoder, graph = quantized_encoder(calibrated.student, calibrated.calibration), program.module()
    for picture in calibrated.pictures[2:6]:
        image = torch.from_numpy(picture)[None]
        group, tokens = graph(image)
        found = encoder.analyse(image)
        assert group.dtype == tokens.dtype == torch.int32
        assert torch.equal(group, found.group)
        assert torch.equal(tokens, found.tokens)


def test_int8_keeps_the_token_vectors(calibrated: Calibrated) -> None:
    """Signal to quantisation noise of z above 20 dB on the calibrated pictures, and the student itself is untouched."""
    quantized = quantized_encoder(calibrated.student, calibrated.calibration)
    images = [torch.from_numpy(picture)[None] for picture in calibrated.pictures]
    full = torch.cat([calibrated.student.analyse(image).z for image in images])
    int8 = torch.cat([quantized.analyse(image).z for image in images])
    noise = (full - int8).square().mean()
    assert noise > 0
    assert 10 * torch.log10(full.square().mean() / noise) > 20


def test_full_precision_graph_gives_the_students_tokens(calibrated: Calibrated) -> None:
    graph = captured_graph(calibrated.student).module()
    images = torch.from_numpy(calibrated.pictures)
    group, tokens = calibrated.student(images)
    answers = [graph(image[None]) for image in images]
    np.testing.assert_array_equal(torch.cat([a[0] for a in answers]), group)
    assert (torch.cat([a[1] for a in answers]) == tokens).float().mean() > 0.98

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from edge_stscq.codec.integer.encoder import IntegerEncoder
from edge_stscq.codec.store import load_student
from edge_stscq.errors import EdgeError
from quantization.graph import captured_graph
from quantization.integer_check import check_exact
from quantization.integer_graph import IntegerGraph, IntegerProgram, integer_program
from quantization.reference import run_program
from targets.golden import candidates

PICTURES = np.stack(candidates(20))


@pytest.fixture(scope="module")
def program(integer_model: Path) -> IntegerProgram:
    student = load_student(integer_model)
    assert isinstance(student, IntegerEncoder)
    return integer_program(student)


@pytest.mark.parametrize("signed", [False, True])
def test_integer_graph_gives_the_tokens_of_whole_numbers(program: IntegerProgram, signed: bool) -> None:
    captured = captured_graph(IntegerGraph(program, signed).eval())
    check_exact(captured)
    module, (groups, tokens) = captured.module(), run_program(program, PICTURES)
    answers = [module(torch.from_numpy(picture[None])) for picture in PICTURES]
    np.testing.assert_array_equal(np.concatenate([group.numpy() for group, _ in answers]), groups)
    np.testing.assert_array_equal(np.concatenate([found.numpy() for _, found in answers]), tokens)


def test_integer_graph_of_one_group_needs_no_search_for_it(tmp_path: Path) -> None:
    from tests.support.models.integer_model import write_integer_model

    student = load_student(write_integer_model(tmp_path, groups=1))
    assert isinstance(student, IntegerEncoder)
    alone = integer_program(student)
    captured = captured_graph(IntegerGraph(alone, signed=False).eval())
    check_exact(captured)
    groups, tokens = run_program(alone, PICTURES[:4])
    assert not groups.any()
    for picture, expected in zip(PICTURES, tokens, strict=False):
        np.testing.assert_array_equal(captured.module()(torch.from_numpy(picture[None]))[1].numpy()[0], expected)


def _heavy(graph: IntegerGraph) -> None:
    graph.get_submodule("identity.1").weight[0, 0, 0, 0] = 64  # type: ignore[operator]


def _odd_weights(graph: IntegerGraph) -> None:
    graph.get_submodule("identity.3").weight_scale.mul_(1.5)  # type: ignore[operator]


def _odd_output(graph: IntegerGraph) -> None:
    graph.get_submodule("transform").scale = 0.03  # type: ignore[assignment]


class _Sigmoid(nn.Module):
    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = torch.sigmoid(self.layer(x))
        return y


def _inexact(graph: IntegerGraph) -> None:
    graph.shrink = _Sigmoid(graph.shrink)  # type: ignore[assignment]


def _in_float(graph: IntegerGraph) -> None:
    graph.identity[2] = nn.Conv2d(8, 16, 1, 2)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_heavy, r"layer identity\.1: a weight of 64 steps exceeds 7 bits"),
        (_odd_weights, r"layer identity\.3: the step of its weights, .*, is no power of two"),
        (_odd_output, r"layer transform: the step of its output, 0\.03, is no power of two"),
        (_inexact, r"operator sigmoid behind shrink.* has no kernel that is the same on every runtime"),
        (_in_float, r"layer identity\.2: its weights are not int8"),
    ],
)
@pytest.mark.parametrize("signed", [False, True])
def test_check_exact_names_the_layer(
    program: IntegerProgram, signed: bool, spoil: Callable[[IntegerGraph], None], message: str
) -> None:
    graph = IntegerGraph(program, signed).eval()
    for name, buffer in list(graph.named_buffers()):  # not to spoil the program
        owner = graph.get_submodule(name.rpartition(".")[0])
        setattr(owner, name.rpartition(".")[2], buffer.clone())
    spoil(graph)
    with pytest.raises(EdgeError, match=message):
        check_exact(captured_graph(graph))

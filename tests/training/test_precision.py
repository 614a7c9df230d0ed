import builtins
import io
from typing import Any

import pytest
import torch
from torch.nn import functional

from edge_stscq.errors import EdgeError
from edge_stscq.training import precision
from edge_stscq.training.options import PrecisionName
from edge_stscq.training.precision import choose_precision

CPU = torch.device("cpu")


@pytest.mark.parametrize(("single", "half", "taken"), [(2.0, 1.0, torch.bfloat16), (1.0, 2.0, torch.float32)])
def test_auto_takes_the_faster_and_says_so(
    monkeypatch: pytest.MonkeyPatch, single: float, half: float, taken: torch.dtype
) -> None:
    monkeypatch.setattr(precision, "_seconds", lambda dtype: single if dtype is torch.float32 else half)
    chosen = choose_precision(PrecisionName.AUTO, CPU)
    assert chosen.dtype is taken
    assert f"{1e3 * single:.0f} ms in float32, {1e3 * half:.0f} in bfloat16" in chosen.reason


def test_both_are_really_timed() -> None:
    assert precision._seconds(torch.float32) > 0
    assert precision._seconds(torch.bfloat16) > 0


def test_bfloat16_on_a_processor_without_it_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    real = open

    def fake(path: Any, *words: Any, **named: Any) -> Any:
        return io.StringIO("flags\t\t: fpu sse2 avx2\n") if path == "/proc/cpuinfo" else real(path, *words, **named)

    monkeypatch.setattr(builtins, "open", fake)
    with pytest.raises(EdgeError, match="this processor has no bfloat16.*use --precision auto or float32"):
        choose_precision(PrecisionName.BFLOAT16, CPU)


def test_autocast_is_on_for_bfloat16_only() -> None:
    x, layer = torch.randn(2, 4), torch.nn.Linear(4, 4)
    for dtype in (torch.float32, torch.bfloat16):
        with precision.Precision(dtype, "").autocast(CPU):
            assert layer(x).dtype is dtype


BFLOAT16 = precision.Precision(torch.bfloat16, "")


@pytest.mark.parametrize("stride", [1, 2])
def test_depthwise_convolutions_that_are_trained_stay_in_float32(stride: int) -> None:
    """oneDNN's backward pass of strided ones in bfloat16 takes a hundred times as long."""
    depthwise, dense = torch.nn.Conv2d(8, 8, 3, stride, 1, groups=8), torch.nn.Conv2d(8, 8, 3, stride, 1)
    x = torch.randn(2, 8, 9, 9, requires_grad=True)
    with BFLOAT16.autocast(CPU):
        y, dense_y = depthwise(x.bfloat16()), dense(x)
        named = functional.conv2d(
            input=x, weight=depthwise.weight, bias=depthwise.bias, stride=stride, padding=1, groups=8
        )
        with torch.no_grad():
            unwatched = depthwise(x)
    assert y.dtype is named.dtype is torch.float32
    assert dense_y.dtype is unwatched.dtype is torch.bfloat16
    assert torch.equal(y, depthwise(x.bfloat16().float()))
    assert torch.equal(named, depthwise(x))
    y.sum().backward()
    assert x.grad is not None
    assert x.grad.dtype is torch.float32


def test_prelu_keeps_the_type_of_its_input() -> None:
    layer, x = torch.nn.PReLU(8), torch.randn(2, 8, 5, 5)
    with BFLOAT16.autocast(CPU):
        half, single = layer(x.bfloat16()), functional.prelu(input=x, weight=layer.weight)
    assert half.dtype is torch.bfloat16
    assert single.dtype is torch.float32
    assert torch.equal(half, functional.prelu(x.bfloat16(), layer.weight.bfloat16()))


def test_float32_leaves_operations_alone() -> None:
    layer, x = torch.nn.Conv2d(8, 8, 3, groups=8).bfloat16(), torch.randn(2, 8, 5, 5).bfloat16()
    with precision.Precision(torch.float32, "").autocast(CPU):
        assert layer(x).dtype is torch.bfloat16

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from edge_stscq.codec.integer.grid import EXACT, SIGNED, UNSIGNED, WEIGHT_LIMIT, GridConv, round_to_grid
from quantization.reference import convolve


@st.composite
def layers(draw: st.DrawFn) -> GridConv:
    """Layers of random weights and steps; many outputs are beyond what the grid holds."""
    kernel, stride, depthwise = draw(st.sampled_from([1, 3, 5])), draw(st.sampled_from([1, 2])), draw(st.booleans())
    inputs = draw(st.integers(1, 6))
    outputs = inputs if depthwise else draw(st.integers(1, 6))
    torch.manual_seed(draw(st.integers(0, 10_000)))
    layer = GridConv(inputs, outputs, kernel, stride, inputs if depthwise else 1, signed=draw(st.booleans()))
    with torch.no_grad():
        size = draw(st.sampled_from([2.0**-7, 1.0, 32.0]))
        layer.weight.mul_(size)
        layer.bias.normal_(std=draw(st.sampled_from([0.0, 0.1, 15.0])) * size)
        layer.fit_weight_steps()
        layer.weight_exponent.clamp_min_(math.log2(size) - 9)  # a channel of nothing but tiny weights
        layer.output_exponent.fill_(draw(st.integers(-9, 2)) + draw(st.floats(-0.4, 0.4)))
    return layer


@settings(max_examples=150, deadline=None)
@given(layer=layers(), exponent=st.integers(-8, -3), kind=st.sampled_from(["any", "extremes", "zero"]))
def test_grid_conv_computes_in_float_what_whole_numbers_give(layer: GridConv, exponent: int, kind: str) -> None:
    limits = (0, 256) if kind != "zero" else (0, 1)
    x = torch.randint(*limits, (2, layer.weight.shape[1] * layer.groups, 7, 7))
    if kind == "extremes":
        x = (x > 127) * UNSIGNED[1]
    y, found = layer(x.float() * 2.0**exponent, torch.tensor(float(exponent)))
    whole = convolve(layer.to_integers(exponent), x.numpy())
    np.testing.assert_array_equal((y / torch.exp2(found.round())).int().numpy(), whole)
    assert whole.min() >= layer.low
    assert whole.max() <= layer.high


def _straight_through(x: Tensor, exponent: Tensor, low: int, high: int, rounded: bool) -> Tensor:
    """The same function by automatic differentiation, rounding passed over."""
    step = torch.exp2(exponent + (exponent.round() - exponent).detach())
    value = (x / step).clamp(low, high)
    return (value + (value.round() - value).detach() if rounded else value) * step


@pytest.mark.parametrize("rounded", [True, False])
@pytest.mark.parametrize(("low", "high"), [UNSIGNED, SIGNED, (-WEIGHT_LIMIT, WEIGHT_LIMIT)])
def test_round_to_grid_has_the_gradients_of_learned_steps(low: int, high: int, rounded: bool) -> None:
    torch.manual_seed(0)
    x = (torch.randn(4, 50, dtype=torch.double) * 6).requires_grad_()
    exponent = torch.tensor([[-5.2], [-4.0], [-2.9], [-6.4]], dtype=torch.double, requires_grad=True)
    weight = torch.randn(4, 50, dtype=torch.double)
    (round_to_grid(x, exponent, low, high, rounded) * weight).sum().backward()
    found = (x.grad, exponent.grad)
    x.grad = exponent.grad = None
    (_straight_through(x, exponent, low, high, rounded) * weight).sum().backward()
    assert found[1] is not None
    assert exponent.grad is not None
    torch.testing.assert_close(found[0], x.grad)
    torch.testing.assert_close(found[1], exponent.grad / math.sqrt(50 * high))


def test_round_to_grid_of_bfloat16_is_that_of_the_same_numbers_in_float32() -> None:
    torch.manual_seed(0)
    x = (torch.randn(2000) * 4).bfloat16()
    exponent = torch.tensor(-5.0, requires_grad=True)
    found = round_to_grid(x, exponent, *UNSIGNED)
    assert found.dtype == torch.bfloat16
    assert torch.equal(found.float(), round_to_grid(x.float(), exponent, *UNSIGNED))


def test_grid_conv_without_rounding_is_its_float_twin() -> None:
    torch.manual_seed(0)
    layer = GridConv(3, 8, 3)
    layer.quantized = False
    x = torch.rand(2, 3, 8, 8)
    y, exponent = layer(x, torch.tensor(-7.0))
    high = UNSIGNED[1] * 2.0 ** float(exponent.detach())
    expected = torch.nn.functional.conv2d(x, layer.weight, layer.bias, padding=1).clamp(0, high)
    torch.testing.assert_close(y, expected)


def test_fit_weight_steps_keeps_weights_within_seven_bits() -> None:
    torch.manual_seed(0)
    layer = GridConv(16, 32, 3)
    whole = layer.to_integers(-7).weight
    assert whole.abs().amax((1, 2, 3)).float().mean() > WEIGHT_LIMIT / 2
    assert whole.abs().max() <= WEIGHT_LIMIT


@pytest.mark.parametrize("name", ["weight", "bias", "weight_exponent", "output_exponent"])
def test_to_integers_names_what_is_no_number(name: str) -> None:
    layer = GridConv(3, 4, 3)
    getattr(layer, name).data.view(-1)[0] = math.nan
    with pytest.raises(ValueError, match="not a finite number"):
        layer.to_integers(-7)


def test_to_integers_bounds_every_sum() -> None:
    layer = GridConv(1, 1, 1)
    with torch.no_grad():
        layer.bias.fill_(1.0)
        layer.weight_exponent.fill_(-20)
    with pytest.raises(ValueError, match="a bias exceeds exact float32"):
        layer.to_integers(-7)
    with torch.no_grad():
        layer.weight_exponent.fill_(-40)
    with pytest.raises(ValueError, match="a sum may leave int32"):
        layer.to_integers(-7)
    wide = GridConv(2000, 1, 1, signed=True)
    with torch.no_grad():
        wide.weight.fill_(WEIGHT_LIMIT * 2.0**-14)
        wide.weight_exponent.fill_(-14)
        wide.output_exponent.fill_(0)
    assert 2000 * WEIGHT_LIMIT * UNSIGNED[1] > EXACT
    with pytest.raises(ValueError, match="a sum may exceed exact float32"):
        wide.to_integers(-7)
    with torch.no_grad():
        wide.output_exponent.fill_(-5)  # what exceeds it is clipped
    wide.to_integers(-7)

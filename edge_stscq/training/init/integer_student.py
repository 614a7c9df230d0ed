"""Starting points of an integer student: steps fitted to pictures, layers taken over from a plain trunk or a student.

A student made for integers differs from a plain trunk at its beginning (dense convolutions, no map at 112 px) and may
be narrower at its very end. What lies between is the same, and years of a recognizer's training are in it.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from edge_stscq.codec.integer.encoder import IdentityNet, IntegerEncoder, ReferenceEncoder
from edge_stscq.codec.integer.grid import INPUT_STEP, GridConv
from edge_stscq.codec.trunk import IdentityTrunk

_PERCENTILE = 99.95
"""Of an activation's values, at which it is clipped to begin with."""


@torch.no_grad()
def fit_steps(net: IdentityNet, picture: Tensor) -> None:
    """Set the steps of all activations by what they are on pictures [N, 3, 112, 112]."""
    x, exponent = picture, picture.new_tensor(INPUT_STEP).log2()
    for layer in net.layers:
        assert isinstance(layer, GridConv)
        y = functional.conv2d(x, layer.weight, layer.bias, layer.stride, layer.padding, groups=layer.groups)
        values = y.flatten()[:: max(1, y.numel() // 1_000_000)]
        bound = values.clamp_min(0).quantile(_PERCENTILE / 100).clamp_min(1e-3)
        layer.output_exponent.copy_((bound / layer.high).log2().ceil())
        x, exponent = layer(x, exponent)


def shared_layers(net: IdentityNet, trunk: IdentityTrunk) -> int:
    """Number of layers at a student's end with the shapes of a plain trunk's; the very last may have fewer outputs."""
    student = [each for each in net.layers if isinstance(each, GridConv)]
    plain = [each for each in trunk.features if isinstance(each, nn.Conv2d)]
    shared = 0
    for layer, other in zip(reversed(student), reversed(plain), strict=False):
        shape, given = layer.weight.shape, other.weight.shape
        if shape[1:] != given[1:] or layer.stride != other.stride[0] or layer.groups not in (1, shape[0]):
            break
        if shape[0] != given[0] and (shared or shape[0] > given[0] or layer.groups != 1):
            break
        shared += 1
    while shared and _side(student[: len(student) - shared]) != _side(plain[: len(plain) - shared]):
        shared -= 1
    return shared


def _side(layers: Sequence[GridConv | nn.Conv2d]) -> int:
    """Factor by which some layers divide the side of a map."""
    total = 1
    for layer in layers:
        total *= layer.stride if isinstance(layer.stride, int) else layer.stride[0]
    return total


@torch.no_grad()
def take_over_layers(net: IdentityNet, trunk: IdentityTrunk, shared: int, pictures: Tensor) -> Tensor:
    """Copy a plain trunk's last `shared` layers, in place.

    Args:
        pictures: [N, 3, 112, 112], by which the outputs of the last layer are chosen, if there are fewer of them.

    Returns:
        Channels int64 [C] of the trunk's last map that the student keeps.
    """
    convolutions = [layer for layer in trunk.features if isinstance(layer, nn.Conv2d)]
    own_last = net.layers[-1]
    assert isinstance(own_last, GridConv)
    width = own_last.weight.shape[0]
    (last,) = trunk.taps(pictures, (len(trunk.features),))
    read = trunk.project.weight.view(trunk.project.out_features, last.shape[1], -1)
    power = read.square().sum((0, 2)) * last.var((0, 2, 3))
    kept = power.argsort(descending=True)[:width].sort().values
    for back in range(1, shared + 1):
        layer, given = net.layers[-back], convolutions[-back]
        assert isinstance(layer, GridConv)
        assert given.bias is not None
        chosen = kept if back == 1 else slice(None)
        layer.weight.copy_(given.weight[chosen])
        layer.bias.copy_(given.bias[chosen])
        layer.fit_weight_steps()
    return kept


@torch.no_grad()
def fit_projection(
    net: IdentityNet, trunk: IdentityTrunk, kept: Tensor, teacher: ReferenceEncoder, pictures: Tensor
) -> None:
    """Set all steps by pictures [N, 3, 112, 112], and the projection to what the trunk's says of the kept channels.

    The projection onto components is composed with the trunk's own, and each component scaled and moved to fit.
    """
    fit_steps(net, pictures)
    columns = teacher.head.projection.abs().sum(0) > 0
    onto = teacher.head.projection[:, columns]
    read = trunk.project.weight.view(trunk.project.out_features, -1, net.project.weight.shape[-1] ** 2)[:, kept]
    weight = torch.einsum("ecp,ek->kcp", read, onto).view_as(net.project.weight)
    found = functional.conv2d(net.maps(pictures)[-2], weight).flatten(1)
    wanted = teacher.components_of(trunk(pictures))
    centered = found - found.mean(0)
    gain = (centered * (wanted - wanted.mean(0))).sum(0) / centered.square().sum(0).clamp_min(1e-12)
    gain = gain.clamp_min(0)
    net.project.weight.copy_(weight * gain[:, None, None, None])
    net.project.bias.copy_(wanted.mean(0) - gain * found.mean(0))
    net.project.fit_weight_steps()


@torch.no_grad()
def take_over_student(student: IntegerEncoder, earlier: IntegerEncoder) -> None:
    """Take over another integer student's network, in place; its components are translated into this model's.

    Both hold all of the embedding, each rotated, scaled and moved in its own way, so that the translation is exact but
    for the embedding's length.

    Raises:
        ValueError: the networks have other layers.
    """
    try:
        student.identity.load_state_dict(earlier.identity.state_dict())
    except RuntimeError as error:
        raise ValueError(str(error).splitlines()[-1].strip()) from None
    new, old = student.head, earlier.head
    to = new.projection[:, new.projection.abs().sum(0) > 0]
    back = old.projection[:, old.projection.abs().sum(0) > 0]
    project = student.identity.project
    if torch.equal(to, back) and torch.equal(new.mean, old.mean):
        return
    inverse = torch.linalg.pinv(back.double())
    turn = (inverse @ to.double()).float()
    project.weight.copy_(torch.einsum("jcyx,jk->kcyx", earlier.identity.project.weight, turn))
    project.bias.copy_(earlier.identity.project.bias @ turn + (old.mean - new.mean) @ to)
    project.fit_weight_steps()

"""SFace of OpenCV Zoo (Apache-2.0), 128 dimensions: the recognizer that both encoders start from."""

import copy
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from edge_stscq.codec.trunk import IdentityTrunk


def load_sface(state: Mapping[str, Tensor]) -> IdentityTrunk:
    """The whole trunk with SFace's weights, given as the flat list of layers `body.<i>.*` in their order.

    Raises:
        RuntimeError: they are of another network.
    """
    trunk = IdentityTrunk()
    modules = [*trunk.features, trunk.features_norm, None, trunk.project, trunk.embedding_norm]  # None: flatten
    for index, module in enumerate(modules):
        if module is not None:
            prefix = f"body.{index}."
            module.load_state_dict({k[len(prefix) :]: v for k, v in state.items() if k.startswith(prefix)})
    return trunk.eval().requires_grad_(False)


@torch.no_grad()
def fuse_batchnorms(trunk: IdentityTrunk) -> IdentityTrunk:
    """Frozen copy of an original trunk in eval mode, its batch norms fused into convolutions and projection."""
    fused = copy.deepcopy(trunk).eval().requires_grad_(False)
    layers = fused.features
    for index in range(0, len(layers), 3):
        convolution, norm = layers[index], layers[index + 1]
        assert isinstance(convolution, nn.Conv2d)
        assert isinstance(norm, nn.BatchNorm2d)
        layers[index], layers[index + 1] = fuse_conv_bn_eval(convolution, norm), nn.Identity()
    inner, inner_offset = _affine(fused.features_norm)
    outer, outer_offset = _affine(fused.embedding_norm)
    weight = fused.project.weight.unflatten(1, (len(inner), -1))
    bias = fused.project.bias + (weight * inner_offset[:, None]).sum((1, 2))
    fused.project.weight.copy_((weight * inner[:, None]).flatten(1) * outer[:, None])
    fused.project.bias.copy_(bias * outer + outer_offset)
    fused.features_norm = fused.embedding_norm = nn.Identity()
    return fused


def _affine(norm: nn.Module) -> tuple[Tensor, Tensor]:
    """Scale and offset that a batch norm applies in eval mode."""
    assert isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d)
    assert norm.running_var is not None
    assert norm.running_mean is not None
    scale = norm.weight / (norm.running_var + norm.eps).sqrt()
    return scale, norm.bias - norm.running_mean * scale

"""A student's identity network begun from a plain trunk: last layers taken over, first ones taught what these expect.

A student made for integers differs from a plain trunk at its beginning (dense convolutions, no map at 112 px) and may
be narrower at its very end. What lies between is the same, and years of a recognizer's training are in it.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from edge_stscq.codec.grid import GridConv
from edge_stscq.codec.integer_encoder import IdentityNet, IntegerEncoder, ReferenceEncoder
from edge_stscq.codec.trunk import IdentityTrunk
from edge_stscq.data.loader import Loader
from edge_stscq.training.embeddings import trunk_input
from edge_stscq.training.loop import all_reduce_gradients, lr_factor, pack, pack_optimiser, unpack, unpack_optimiser
from edge_stscq.training.losses import channels_last
from edge_stscq.training.stages.integer_student import fit_steps

_RATE = 2e-3
_WARMUP = 30


def shared_layers(net: IdentityNet, trunk: IdentityTrunk) -> int:
    """How many layers at a student's end have the shapes of a plain trunk's; the very last may have fewer outputs."""
    ours = [layer for layer in net.layers if isinstance(layer, GridConv)]
    theirs = [layer for layer in trunk.features if isinstance(layer, nn.Conv2d)]
    shared = 0
    for mine, other in zip(reversed(ours), reversed(theirs), strict=False):
        shape, given = mine.weight.shape, other.weight.shape
        if shape[1:] != given[1:] or mine.stride != other.stride[0] or mine.groups not in (1, shape[0]):
            break
        if shape[0] != given[0] and (shared or shape[0] > given[0] or mine.groups != 1):
            break
        shared += 1
    while shared and _side(ours[: len(ours) - shared]) != _side(theirs[: len(theirs) - shared]):
        shared -= 1
    return shared


def _side(layers: Sequence[GridConv | nn.Conv2d]) -> int:
    """By what some layers divide the side of a map."""
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
    ours_last = net.layers[-1]
    assert isinstance(ours_last, GridConv)
    width = ours_last.weight.shape[0]
    (last,) = trunk.taps(pictures, (len(trunk.features),))
    read = trunk.project.weight.view(trunk.project.out_features, last.shape[1], -1)
    power = read.square().sum((0, 2)) * last.var((0, 2, 3))
    kept = power.argsort(descending=True)[:width].sort().values
    for back in range(1, shared + 1):
        ours, theirs = net.layers[-back], convolutions[-back]
        assert isinstance(ours, GridConv)
        assert theirs.bias is not None
        chosen = kept if back == 1 else slice(None)
        ours.weight.copy_(theirs.weight[chosen])
        ours.bias.copy_(theirs.bias[chosen])
        ours.fit_weight_steps()
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
    centred = found - found.mean(0)
    gain = (centred * (wanted - wanted.mean(0))).sum(0) / centred.square().sum(0).clamp_min(1e-12)
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
    mine, theirs = student.head, earlier.head
    to = mine.projection[:, mine.projection.abs().sum(0) > 0]
    back = theirs.projection[:, theirs.projection.abs().sum(0) > 0]
    project = student.identity.project
    if torch.equal(to, back) and torch.equal(mine.mean, theirs.mean):
        return
    inverse = torch.linalg.pinv(back.double())
    turn = (inverse @ to.double()).float()
    project.weight.copy_(torch.einsum("jcyx,jk->kcyx", earlier.identity.project.weight, turn))
    project.bias.copy_(earlier.identity.project.bias @ turn + (theirs.mean - mine.mean) @ to)
    project.fit_weight_steps()


class FrontMatching:
    """Task: a student's first layers learn the feature map of a plain trunk that the layers taken over expect."""

    def __init__(
        self, net: IdentityNet, trunk: IdentityTrunk, shared: int, loader: Loader, steps: int, device: torch.device
    ) -> None:
        self.loader, self.steps, self.device, self.batch = loader, steps, device, loader.batch
        self.front = channels_last(nn.ModuleList(list(net.layers)[: len(net.layers) - shared]).to(device))
        self.trunk = channels_last(trunk.to(device)).eval().requires_grad_(False)
        self.end = 2 * (sum(isinstance(layer, nn.Conv2d) for layer in trunk.features) - shared)
        self.layers = [layer for layer in self.front if isinstance(layer, GridConv)]
        self.trained = [parameter for layer in self.layers for parameter in (layer.weight, layer.bias)]
        for parameter in self.trained:
            parameter.requires_grad_(True)
        self.optimizer = torch.optim.AdamW(self.trained, lr=_RATE)

    def _maps(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """The student's map, nothing rounded, and the trunk's."""
        x = trunk_input(images.to(self.device)).contiguous(memory_format=torch.channels_last)
        with torch.no_grad():
            (target,) = self.trunk.taps(x, (self.end,))
        for layer in self.layers:
            x = functional.relu(functional.conv2d(
                x, layer.weight, layer.bias, layer.stride, layer.padding, groups=layer.groups
            ))  # fmt: skip
        return x, target

    def step(self, index: int) -> dict[str, Tensor | float]:
        for group in self.optimizer.param_groups:
            group["lr"] = _RATE * lr_factor(index, self.steps, _WARMUP, floor=0)
        found, target = self._maps(self.loader.get(index).images)
        loss = (found - target).square().mean() / target.var()
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        all_reduce_gradients(self.trained)
        self.optimizer.step()
        return {"unlike": loss.detach()}

    def state(self) -> dict[str, Tensor]:
        return pack("front", self.front.state_dict()) | pack_optimiser("optimiser", self.optimizer)

    def restore(self, state: Mapping[str, Tensor]) -> None:
        self.front.load_state_dict(unpack("front", state))
        unpack_optimiser("optimiser", state, self.optimizer)

    def finish(self) -> None:
        """Set the steps of the weights that were learned."""
        for layer in self.layers:
            layer.fit_weight_steps()

    @torch.no_grad()
    def sample(self, path: Path) -> None:
        """Write the first eight channels of the trunk's map (above) and the student's (below) of the first picture."""
        found, target = self._maps(torch.from_numpy(self.loader.faces.crop(0))[None])
        rows = [np.concatenate(list(part[0, :8].cpu().numpy()), axis=1) for part in (target, found)]
        picture = np.concatenate(rows) * (255 / max(float(rows[0].max()), 1e-6))
        cv2.imwrite(str(path), cv2.resize(picture.clip(0, 255).astype(np.uint8), None, fx=4, fy=4))

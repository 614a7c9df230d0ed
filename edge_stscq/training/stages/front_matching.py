"""First layers of an integer student, taught what the layers taken over from a plain trunk expect."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from edge_stscq.codec.integer.encoder import IdentityNet
from edge_stscq.codec.integer.grid import GridConv
from edge_stscq.codec.trunk import IdentityTrunk
from edge_stscq.data.loader import Loader
from edge_stscq.training.embeddings import trunk_input
from edge_stscq.training.losses import channels_last
from edge_stscq.training.optimization import gradient_step, lr_factor
from edge_stscq.training.preview import write_enlarged
from edge_stscq.training.state import Resumable

_RATE = 2e-3
_WARMUP = 30


class FrontMatching(Resumable):
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
        self.parts = {"front": self.front, "optimiser": self.optimizer}

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
        gradient_step(loss, self.optimizer, self.trained)
        return {"unlike": loss.detach()}

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
        write_enlarged(path, picture.clip(0, 255).astype(np.uint8), 4, 4)

"""Stage: distillation of the identity trunk, pruned in closed form from the teacher's, on the teacher's embeddings."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from edge_stscq.codec.trunk import IdentityTrunk
from edge_stscq.data.loader import Loader
from edge_stscq.recognizers.sface import fuse_batchnorms
from edge_stscq.training.embeddings import trunk_input
from edge_stscq.training.losses import channels_last, relation_loss
from edge_stscq.training.optimization import gradient_step, lr_factor
from edge_stscq.training.preview import similarity_picture
from edge_stscq.training.stages.distillation import DistillSettings, blend, fit_reader
from edge_stscq.training.state import EMA, Resumable

_READ = 12
"""Batches that the reader of feature maps is fitted to before the first step."""


def _seen(network: IdentityTrunk, image: Tensor) -> tuple[Tensor, Tensor]:
    """A trunk's last feature map [N, C, 7, 7] and unit embedding [N, 128]."""
    layers = len(network.features)
    (last,) = network.taps(image, (layers,))
    return last, functional.normalize(network.finish(last, layers))


class IdentityDistillation(Resumable):
    """Task: a plain trunk learns the recognizer's embeddings, and its last feature map through a linear reader.

    The recognizer is asked about every picture as the trunk sees it; a share of the batch are blends of two faces.
    """

    def __init__(
        self, trunk: IdentityTrunk, recognizer: IdentityTrunk, loader: Loader, settings: DistillSettings,
        device: torch.device,
    ) -> None:  # fmt: skip
        self.loader, self.settings, self.device, self.batch = loader, settings, device, settings.batch
        self.recognizer = channels_last(fuse_batchnorms(recognizer).to(device))
        self.trunk = channels_last(trunk.requires_grad_(True).train().to(device))
        pictures = [self._prepare(self.loader.get(step, ahead=0).images) for step in range(_READ)]
        with torch.no_grad():
            seen, target = ([_seen(net, part)[0] for part in pictures] for net in (self.trunk, self.recognizer))
            self.reader, self.spread = fit_reader(list(seen), list(target), device)
        self.average = EMA(self.trunk, settings.decay)
        self.trained = [*self.trunk.parameters(), *self.reader.parameters()]
        self.optimizer = torch.optim.AdamW(self.trained, lr=settings.rate, weight_decay=1e-4, fused=True)
        self.parts = {
            "trunk": self.trunk, "reader": self.reader, "average": self.average, "optimiser": self.optimizer,
        }  # fmt: skip

    def _prepare(self, images: Tensor) -> Tensor:
        return trunk_input(images.to(self.device)).contiguous(memory_format=torch.channels_last)

    def step(self, index: int) -> dict[str, Tensor | float]:
        weights, image = self.settings, self._prepare(self.loader.get(index).images)
        for group in self.optimizer.param_groups:
            group["lr"] = weights.rate * lr_factor(index, weights.steps)
        blend(image, weights.blends)
        with torch.no_grad():
            target_map, target = _seen(self.recognizer, image)
        last, embedding = _seen(self.trunk, image)
        cosine = (embedding * target).sum(1).mean()
        relation = relation_loss(embedding, target)
        unread = (self.reader(last) - target_map).square().mean() / self.spread
        loss = 1 - cosine + 2 * relation + weights.features * unread
        norm = gradient_step(loss, self.optimizer, self.trained, clip=1.0)
        self.average.update(self.trunk, index)
        return {
            "cosine": cosine.detach(), "relation": relation.detach(), "features": unread.detach(), "gradient": norm,
        }  # fmt: skip

    def result(self) -> IdentityTrunk:
        """The averaged trunk, in eval mode, on the CPU."""
        self.trunk.load_state_dict(self.average.tensors)
        return self.trunk.cpu().eval()

    def sample(self, path: Path) -> None:
        """Similarities of 64 pictures, the student's above the diagonal, the teacher's below it."""
        count = min(64, len(self.loader.faces))
        images = self._prepare(torch.from_numpy(np.stack([self.loader.faces.crop(i) for i in range(count)])))
        self.trunk.eval()
        with torch.no_grad():
            similarity_picture(path, _seen(self.trunk, images)[1], _seen(self.recognizer, images)[1])
        self.trunk.train()

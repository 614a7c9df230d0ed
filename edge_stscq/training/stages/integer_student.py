"""Stage: distillation of the integer student through its own integer graph.

The network learns the recognizer's identity components, its relations between faces and, through a linear reader, its
last feature map; weights and activations are rounded to their grids from the first step, with steps that are learned
(`codec/integer/grid.py`). What the device computes is what was trained: nothing is calibrated afterwards.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from edge_stscq.codec.integer.encoder import IntegerEncoder, ReferenceEncoder
from edge_stscq.config.recipe import StudentTraining
from edge_stscq.data.loader import Loader
from edge_stscq.recognizers.sface import fuse_batchnorms
from edge_stscq.training.embeddings import trunk_input
from edge_stscq.training.fused_rounding import fuse_rounding
from edge_stscq.training.losses import channels_last, relation_loss
from edge_stscq.training.optimization import RelativeAdamW, gradient_step, lr_factor
from edge_stscq.training.precision import Precision
from edge_stscq.training.preview import similarity_picture
from edge_stscq.training.stages.distillation import blend, fit_reader
from edge_stscq.training.state import EMA, Resumable

_READ = 8
"""Batches that the reader of feature maps is fitted to."""
_EXPONENT_PACE = 0.5
"""Absolute learning rate of the logarithms of steps, in units of the relative rate of the rest."""
_DECAY = 1e-4
_WORTH_COMPILING = 1000
"""Steps from which on compiling takes less time than it saves."""


class IntegerDistillation(Resumable):
    """Task: the student's identity network learns from the recognizer, in its own arithmetic.

    A share of the batch are blends of two faces ("mixup", Zhang et al. 2018, arXiv 1710.09412), which the recognizer is
    asked about as the student sees them.

    Where convolutions are computed in bfloat16, it still holds every point of a grid (8 bits); sums and biases are
    rounded to as many bits before they reach their grid. The last steps can be made in float32 (`--precision`).

    Args:
        taken: layers at the end of the identity network, projection apart, that were taken over from another network.
    """

    def __init__(
        self, teacher: ReferenceEncoder, student: IntegerEncoder, loader: Loader, plan: StudentTraining, average: float,
        precision: Precision, device: torch.device, taken: int = 0,
    ) -> None:  # fmt: skip
        self.loader, self.plan, self.device, self.batch = loader, plan, device, loader.batch
        self.precision = precision
        self.teacher = teacher.to(device).eval().requires_grad_(False)
        self.recognizer = channels_last(fuse_batchnorms(teacher.trunk).to(device))
        self.student = student.to(device)
        self.net = channels_last(student.identity).train()
        self.net.requires_grad_(True).project.output_exponent.requires_grad_(False)
        if device.type == "cpu" and plan.steps >= _WORTH_COMPILING:
            fuse_rounding(self.net)
        pictures = [self._prepare(self.loader.get(step, ahead=0).images) for step in range(_READ)]
        with torch.no_grad():
            seen, target = [self.net.maps(part)[-2] for part in pictures], [self._teach(part)[0] for part in pictures]
        self.reader, self.spread = fit_reader(seen, target, device)
        self.average = EMA(self.net, average)
        groups = self._groups(taken)
        self.trained = [parameter for group in groups for parameter in group["params"]]
        self.optimizer = RelativeAdamW(groups, lr=plan.rate)
        self.parts = {
            "net": self.net, "reader": self.reader, "average": self.average, "optimiser": self.optimizer,
        }  # fmt: skip

    def _groups(self, taken: int) -> list[dict[str, Any]]:
        """Parameters of the optimizer: the rest, the tail that was taken over, and all steps."""
        tail = {id(p) for layer in list(self.net.layers)[len(self.net.layers) - taken :] for p in layer.parameters()}
        named = [(name, p) for name, p in self.net.named_parameters() if p.requires_grad]
        steps = [p for name, p in named if name.endswith("exponent")]
        weights = [p for name, p in named if not name.endswith("exponent")]
        rest = [*(p for p in weights if id(p) not in tail), *self.reader.parameters()]
        kept = [p for p in weights if id(p) in tail]
        paces = ((rest, 1.0, _DECAY), (kept, self.plan.tail, _DECAY), (steps, _EXPONENT_PACE, 0.0))
        return [
            {"params": part, "pace": pace, "weight_decay": decay, "relative": part is not steps}
            for part, pace, decay in paces
            if part
        ]

    def _prepare(self, images: Tensor) -> Tensor:
        return trunk_input(images.to(self.device)).contiguous(memory_format=torch.channels_last)

    def _teach(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """The recognizer's last feature map [N, 1024, 7, 7] and identity components [N, 128]."""
        layers = len(self.recognizer.features)
        with self.precision.autocast(self.device):
            (last,) = self.recognizer.taps(image, (layers,))
            embedding = self.recognizer.finish(last, layers)
        return last.float(), self.teacher.components_of(embedding.float())

    def step(self, index: int) -> dict[str, Tensor | float]:
        plan, image = self.plan, self._prepare(self.loader.get(index).images)
        for group in self.optimizer.param_groups:
            group["lr"] = group["pace"] * plan.rate * lr_factor(index, plan.steps)
        blend(image, plan.blends)
        image = (image * 128).round() / 128  # a picture is made of bytes
        with torch.no_grad():
            target_map, target = self._teach(image)
        with self.precision.autocast(self.device):
            maps = self.net.maps(image)
        found, last = maps[-1].flatten(1).float(), maps[-2].float()
        cosine = functional.cosine_similarity(found, target).mean()
        vectors = (found - target).square().mean() / target.var(0).mean()
        relation = relation_loss(functional.normalize(found), functional.normalize(target))
        unread = (self.reader(last) - target_map).square().mean() / self.spread
        loss = (1 - cosine) + plan.vectors * vectors + plan.relation * relation + plan.features * unread
        norm = gradient_step(loss, self.optimizer, self.trained, clip=1.0)
        self.average.update(self.net, index)
        return {
            "cosine": cosine.detach(), "vectors": vectors.detach(), "relation": relation.detach(),
            "features": unread.detach(), "gradient": norm,
        }  # fmt: skip

    def result(self) -> IntegerEncoder:
        """The student with its averaged identity network, in eval mode, on the CPU."""
        self.net.load_state_dict(self.average.tensors)
        return self.student.cpu().eval().requires_grad_(False)

    @torch.no_grad()
    def sample(self, path: Path) -> None:
        """Write similarities of 64 pictures: the student's above the diagonal, the teacher's below it."""
        count = min(64, len(self.loader.faces))
        image = self._prepare(torch.from_numpy(np.stack([self.loader.faces.crop(i) for i in range(count)])))
        similarity_picture(path, functional.normalize(self.net(image)), functional.normalize(self._teach(image)[1]))

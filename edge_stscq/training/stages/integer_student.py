"""Distillation of the integer student through its own integer graph.

The network learns the recognizer's identity components, its relations between faces and, through a linear reader, its
last feature map; weights and activations are rounded to their grids from the first step, with steps that are learned
(`codec/grid.py`). What the device computes is what was trained: nothing is calibrated afterwards.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional

from edge_stscq.codec.grid import INPUT_STEP, GridConv
from edge_stscq.codec.integer_encoder import IdentityNet, IntegerEncoder, ReferenceEncoder
from edge_stscq.config.recipe import StudentTraining
from edge_stscq.data.loader import Loader
from edge_stscq.recognizers.sface import fuse_batchnorms
from edge_stscq.training.embeddings import trunk_input
from edge_stscq.training.init.pruning import regress, sample_positions
from edge_stscq.training.loop import (
    EMA,
    all_reduce_gradients,
    lr_factor,
    pack,
    pack_optimiser,
    unpack,
    unpack_optimiser,
)
from edge_stscq.training.losses import channels_last

_READ = 8
"""Batches that the reader of feature maps is fitted to."""
_PERCENTILE = 99.95
"""Of an activation's values, at which it is clipped to begin with."""
_EXPONENT_PACE = 2.0
"""Learning rate of the logarithms of steps, relative to the rest."""
_DECAY = 1e-4


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


class IntegerDistillation:
    """Task: the student's identity network learns from the recognizer, in its own arithmetic.

    A share of the batch are blends of two faces ("mixup", Zhang et al. 2018, arXiv 1710.09412), which the recognizer is
    asked about as the student sees them.

    Args:
        taken: layers at the end of the identity network, projection apart, that were taken over from another network.
    """

    def __init__(
        self, teacher: ReferenceEncoder, student: IntegerEncoder, loader: Loader, plan: StudentTraining, average: float,
        device: torch.device, taken: int = 0,
    ) -> None:  # fmt: skip
        self.loader, self.plan, self.device, self.batch = loader, plan, device, loader.batch
        self.teacher = teacher.to(device).eval().requires_grad_(False)
        self.recognizer = channels_last(fuse_batchnorms(teacher.trunk).to(device))
        self.student = student.to(device)
        self.net = channels_last(student.identity).train()
        self.net.requires_grad_(True).project.output_exponent.requires_grad_(False)
        self.reader, self.spread = self._fit_reader()
        self.average = EMA(self.net, average)
        groups = self._groups(taken)
        self.trained = [parameter for group in groups for parameter in group["params"]]
        self.optimizer = torch.optim.AdamW(groups, lr=plan.rate)

    def _groups(self, taken: int) -> list[dict[str, Any]]:
        """Parameters of the optimizer: the rest, the tail that was taken over, and all steps."""
        tail = {id(p) for layer in list(self.net.layers)[len(self.net.layers) - taken :] for p in layer.parameters()}
        named = [(name, p) for name, p in self.net.named_parameters() if p.requires_grad]
        steps = [p for name, p in named if name.endswith("exponent")]
        weights = [p for name, p in named if not name.endswith("exponent")]
        rest = [*(p for p in weights if id(p) not in tail), *self.reader.parameters()]
        kept = [p for p in weights if id(p) in tail]
        paces = ((rest, 1.0, _DECAY), (kept, self.plan.tail, _DECAY), (steps, _EXPONENT_PACE, 0.0))
        return [{"params": part, "pace": pace, "weight_decay": decay} for part, pace, decay in paces if part]

    def _prepare(self, images: Tensor) -> Tensor:
        return trunk_input(images.to(self.device)).contiguous(memory_format=torch.channels_last)

    def _teach(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """The recognizer's last feature map [N, 1024, 7, 7] and identity components [N, 128]."""
        layers = len(self.recognizer.features)
        (last,) = self.recognizer.taps(image, (layers,))
        return last, self.teacher.components_of(self.recognizer.finish(last, layers))

    @torch.no_grad()
    def _fit_reader(self) -> tuple[nn.Conv2d, Tensor]:
        pictures = [self._prepare(self.loader.get(step, ahead=0).images) for step in range(_READ)]
        ours = sample_positions(torch.cat([self.net.maps(part)[-2] for part in pictures])).cpu()
        theirs = sample_positions(torch.cat([self._teach(part)[0] for part in pictures])).cpu()
        weight, bias = regress(ours, theirs)
        reader = nn.Conv2d(ours.shape[1], theirs.shape[1], 1)
        reader.load_state_dict({"weight": weight.t()[:, :, None, None], "bias": bias})
        reader, spread = channels_last(reader.to(self.device)), theirs.var(0).mean().to(self.device)
        if dist.is_initialized():  # each process saw faces of its own; one reads for all
            for tensor in (*reader.parameters(), spread):
                dist.broadcast(tensor, 0)
        return reader, spread

    def step(self, index: int) -> dict[str, Tensor | float]:
        plan, image = self.plan, self._prepare(self.loader.get(index).images)
        for group in self.optimizer.param_groups:
            group["lr"] = group["pace"] * plan.rate * lr_factor(index, plan.steps)
        blended = round(plan.blends * len(image))
        share = 0.5 + 0.5 * torch.rand(blended, 1, 1, 1, device=self.device)
        image[:blended] = share * image[:blended] + (1 - share) * image.flip(0)[:blended]
        image = (image * 128).round() / 128  # a picture is made of bytes
        with torch.no_grad():
            target_map, target = self._teach(image)
        maps = self.net.maps(image)
        found, last = maps[-1].flatten(1), maps[-2]
        cosine = functional.cosine_similarity(found, target).mean()
        vectors = (found - target).square().mean() / target.var(0).mean()
        ours, theirs = functional.normalize(found), functional.normalize(target)
        # relations between the pictures of the batch matter more for verification than the absolute place
        relation = (ours @ ours.t() - theirs @ theirs.t()).square().mean()
        unread = (self.reader(last) - target_map).square().mean() / self.spread
        loss = (1 - cosine) + plan.vectors * vectors + plan.relation * relation + plan.features * unread
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        all_reduce_gradients(self.trained)
        norm = nn.utils.clip_grad_norm_(self.trained, 1.0)
        self.optimizer.step()
        self.average.update(self.net, index)
        return {
            "cosine": cosine.detach(), "vectors": vectors.detach(), "relation": relation.detach(),
            "features": unread.detach(), "gradient": norm,
        }  # fmt: skip

    def state(self) -> dict[str, Tensor]:
        return (
            pack("net", self.net.state_dict())
            | pack("reader", self.reader.state_dict())
            | pack("average", self.average.tensors)
            | pack_optimiser("optimiser", self.optimizer)
        )

    def restore(self, state: Mapping[str, Tensor]) -> None:
        self.net.load_state_dict(unpack("net", state))
        self.reader.load_state_dict(unpack("reader", state))
        self.average.tensors = {k: v.to(self.device) for k, v in unpack("average", state).items()}
        unpack_optimiser("optimiser", state, self.optimizer)

    def result(self) -> IntegerEncoder:
        """The student with its averaged identity network, in eval mode, on the CPU."""
        self.net.load_state_dict(self.average.tensors)
        return self.student.cpu().eval().requires_grad_(False)

    @torch.no_grad()
    def sample(self, path: Path) -> None:
        """Write similarities of 64 pictures: the student's above the diagonal, the teacher's below it."""
        count = min(64, len(self.loader.faces))
        image = self._prepare(torch.from_numpy(np.stack([self.loader.faces.crop(i) for i in range(count)])))
        ours, theirs = (functional.normalize(part).cpu() for part in (self.net(image), self._teach(image)[1]))
        both = torch.triu(ours @ ours.t()) + torch.tril(theirs @ theirs.t(), -1)
        picture = ((both + 1) * 127.5).clamp(0, 255).byte().numpy()
        cv2.imwrite(str(path), cv2.resize(picture, None, fx=6, fy=6, interpolation=cv2.INTER_NEAREST))

"""Distillation of the device's encoder.

First the identity trunk, pruned in closed form from the teacher's, learns the teacher's embeddings. Then the whole
student learns the teacher's token vectors, its tokens (cross-entropy over the distances to the codebook entries), its
group and the identity.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional

from edge_stscq.codec.encoder import EdgeEncoder, normalise_image
from edge_stscq.codec.trunk import IdentityTrunk
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


@dataclass(frozen=True)
class DistillSettings:
    """Weights of the losses and the pace of one phase."""

    steps: int
    batch: int
    rate: float
    vectors: float = 1.0
    tokens: float = 0.1
    group: float = 0.2
    identity: float = 2.0
    temperature: float = 0.5
    decay: float = 0.998
    blends: float = 0.0
    features: float = 1.0


_READ = 12
"""Batches that the reader of feature maps is fitted to before the first step."""


def _seen(network: IdentityTrunk, image: Tensor) -> tuple[Tensor, Tensor]:
    """A trunk's last feature map [N, C, 7, 7] and unit embedding [N, 128]."""
    layers = len(network.features)
    (last,) = network.taps(image, (layers,))
    return last, functional.normalize(network.finish(last, layers))


class IdentityDistillation:
    """Task: a plain trunk learns the recognizer's embeddings, and its last feature map through a linear reader.

    The recognizer is asked about every picture as the trunk sees it. A share of the batch are blends of two faces
    ("mixup", Zhang et al. 2018, arXiv 1710.09412): there are more pairs of faces than faces, and a teacher that sees
    the same blend stays right about it (Beyer et al. 2022, arXiv 2106.05237). The map says of 49 places what the
    embedding says of one ("FitNets", Romero et al. 2015, arXiv 1412.6550).
    """

    def __init__(
        self, trunk: IdentityTrunk, whole: IdentityTrunk, loader: Loader, settings: DistillSettings,
        device: torch.device,
    ) -> None:  # fmt: skip
        self.loader, self.settings, self.device, self.batch = loader, settings, device, settings.batch
        self.whole = channels_last(fuse_batchnorms(whole).to(device))
        self.trunk = channels_last(trunk.requires_grad_(True).train().to(device))
        self.reader, self.spread = self._fit_reader()
        self.average = EMA(self.trunk, settings.decay)
        self.trained = [*self.trunk.parameters(), *self.reader.parameters()]
        self.optimizer = torch.optim.AdamW(self.trained, lr=settings.rate, weight_decay=1e-4, fused=True)

    @torch.no_grad()
    def _fit_reader(self) -> tuple[nn.Conv2d, Tensor]:
        """The best linear reading of the recognizer's last map from the trunk's, and the variance of what is read."""
        pictures = [self.loader.get(step, ahead=0).images for step in range(_READ)]
        maps = [[_seen(network, self._prepare(part))[0] for part in pictures] for network in (self.trunk, self.whole)]
        ours, theirs = (sample_positions(torch.cat(part)).cpu() for part in maps)
        weight, bias = regress(ours, theirs)
        reader = nn.Conv2d(ours.shape[1], theirs.shape[1], 1)
        reader.load_state_dict({"weight": weight.t()[:, :, None, None], "bias": bias})
        reader, spread = channels_last(reader.to(self.device)), theirs.var(0).mean().to(self.device)
        if dist.is_initialized():  # each process saw faces of its own; one reads for all
            for tensor in (*reader.parameters(), spread):
                dist.broadcast(tensor, 0)
        return reader, spread

    def _prepare(self, images: Tensor) -> Tensor:
        return trunk_input(images.to(self.device)).contiguous(memory_format=torch.channels_last)

    def step(self, index: int) -> dict[str, Tensor | float]:
        weights, image = self.settings, self._prepare(self.loader.get(index).images)
        for group in self.optimizer.param_groups:
            group["lr"] = weights.rate * lr_factor(index, weights.steps)
        blended = round(weights.blends * len(image))
        share = 0.5 + 0.5 * torch.rand(blended, 1, 1, 1, device=self.device)
        image[:blended] = share * image[:blended] + (1 - share) * image.flip(0)[:blended]
        with torch.no_grad():
            target_map, target = _seen(self.whole, image)
        ours, embedding = _seen(self.trunk, image)
        cosine = (embedding * target).sum(1).mean()
        # relations between the pictures of the batch matter more for verification than the absolute place
        relation = (embedding @ embedding.t() - target @ target.t()).square().mean()
        unread = (self.reader(ours) - target_map).square().mean() / self.spread
        loss = 1 - cosine + 2 * relation + weights.features * unread
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        all_reduce_gradients(self.trained)
        norm = nn.utils.clip_grad_norm_(self.trained, 1.0)
        self.optimizer.step()
        self.average.update(self.trunk, index)
        return {
            "cosine": cosine.detach(), "relation": relation.detach(), "features": unread.detach(), "gradient": norm,
        }  # fmt: skip

    def state(self) -> dict[str, Tensor]:
        return (
            pack("trunk", self.trunk.state_dict())
            | pack("reader", self.reader.state_dict())
            | pack("average", self.average.tensors)
            | pack_optimiser("optimiser", self.optimizer)
        )

    def restore(self, state: Mapping[str, Tensor]) -> None:
        self.trunk.load_state_dict(unpack("trunk", state))
        self.reader.load_state_dict(unpack("reader", state))
        self.average.tensors = unpack("average", state)
        unpack_optimiser("optimiser", state, self.optimizer)

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
            ours, theirs = (_seen(network, images)[1].cpu() for network in (self.trunk, self.whole))
        self.trunk.train()
        both = torch.triu(ours @ ours.t()) + torch.tril(theirs @ theirs.t(), -1)
        picture = ((both + 1) * 127.5).clamp(0, 255).byte().numpy()
        cv2.imwrite(str(path), cv2.resize(picture, None, fx=6, fy=6, interpolation=cv2.INTER_NEAREST))


class TokenDistillation:
    """Task: the whole student learns token vectors, tokens, group and identity of a frozen teacher.

    What comes trained or fitted in closed form (identity trunk, transform) learns more slowly than the rest. The
    teacher's spatial vectors are computed on the augmented picture; its identity vectors come from the cached
    embeddings of the original, so that the student learns to ignore small shifts and changes of light.
    """

    def __init__(
        self, master: EdgeEncoder, small: EdgeEncoder, embeddings: Tensor, loader: Loader, settings: DistillSettings,
        device: torch.device,
    ) -> None:  # fmt: skip
        self.loader, self.settings, self.device, self.batch = loader, settings, device, settings.batch
        self.master = channels_last(master.eval().requires_grad_(False).to(device))
        self.embeddings = embeddings
        self.student = small
        self.student.head.identity.load_state_dict(master.head.identity.state_dict())
        self.student.codebooks.load_state_dict(master.codebooks.state_dict())
        channels_last(self.student.to(device))
        self.average = EMA(self.student, settings.decay)
        head = self.student.head
        trained = list(self.student.backbone.identity.parameters())
        fitted = [p for p in (head.transform, head.pixels, head.offset) if p is not None]
        known = {id(p) for p in trained + fitted}
        rest = [p for p in self.student.parameters() if id(p) not in known]
        self.rates = (0.5 * settings.rate, 0.4 * settings.rate, 4 * settings.rate)
        self.optimizer = torch.optim.AdamW(
            [{"params": part} for part in (trained, fitted, rest)], lr=settings.rate, weight_decay=1e-4, fused=True
        )

    def step(self, index: int) -> dict[str, Tensor | float]:
        batch, weights = self.loader.get(index), self.settings
        for group, base in zip(self.optimizer.param_groups, self.rates, strict=True):
            group["lr"] = base * lr_factor(index, weights.steps)
        self.student.train()
        image = normalise_image(batch.images.to(self.device)).contiguous(memory_format=torch.channels_last)
        who = self.embeddings[batch.index, batch.flip.long()].to(self.device)
        with torch.no_grad():
            target = self.master.head(who, self.master.backbone.spatial(image), image)
            target_group = self.master.choose(target, self.master.router(target))
            distances = self.master.codebooks.distances(target, target_group)
            target_tokens = distances.argmin(-1)
            scale = distances.mean((0, 2), keepdim=True) * weights.temperature / 8
        embedding, features = self.student.backbone(image)
        z = self.student.head(embedding, features, image)
        logits = self.student.router(z)
        spread = target.var((0, 2), keepdim=True).clamp_min(1e-4)
        vectors = ((z - target).square() / spread).mean()
        ours = -self.student.codebooks.distances(z, target_group) / scale
        tokens = functional.cross_entropy(ours.flatten(0, 1), target_tokens.flatten())
        group_loss = functional.cross_entropy(logits, target_group)
        cosine = (functional.normalize(embedding) * functional.normalize(who)).sum(1).mean()
        loss = (
            weights.vectors * vectors
            + weights.tokens * tokens
            + weights.group * group_loss
            + weights.identity * (1 - cosine)
        )
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        all_reduce_gradients(self.student.parameters())
        nn.utils.clip_grad_norm_(self.student.parameters(), 5.0)
        self.optimizer.step()
        self.average.update(self.student, index)
        return {
            "vectors": vectors.detach(), "tokens": tokens.detach(), "group": group_loss.detach(),
            "cosine": cosine.detach(), "agreement": (ours.argmax(-1) == target_tokens).float().mean(),
            "group_agreement": (logits.argmax(-1) == target_group).float().mean(),
        }  # fmt: skip

    def state(self) -> dict[str, Tensor]:
        return (
            pack("student", self.student.state_dict())
            | pack("average", self.average.tensors)
            | pack_optimiser("optimiser", self.optimizer)
        )

    def restore(self, state: Mapping[str, Tensor]) -> None:
        self.student.load_state_dict(unpack("student", state))
        self.average.tensors = unpack("average", state)
        unpack_optimiser("optimiser", state, self.optimizer)

    def result(self) -> EdgeEncoder:
        """The averaged student, in eval mode."""
        self.student.load_state_dict(self.average.tensors)
        return self.student.eval()

    @torch.no_grad()
    def sample(self, path: Path) -> None:
        """Teacher's token vectors (above) and the student's (below) of 64 pictures, one row a picture."""
        images = torch.from_numpy(
            np.stack([self.loader.faces.crop(i) for i in range(min(64, len(self.loader.faces)))])
        ).to(self.device)
        self.student.eval()
        both = [network.analyse(images).z.flatten(1) for network in (self.master, self.student)]
        picture = (torch.cat(both) * 40 + 128).clamp(0, 255).byte().cpu().numpy()
        cv2.imwrite(str(path), cv2.resize(picture, None, fx=2, fy=4, interpolation=cv2.INTER_NEAREST))

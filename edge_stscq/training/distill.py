"""Distillation of the device's encoder.

First the identity trunk - the teacher's, cut to its most important channels - learns the teacher's embeddings; its
PReLUs fade into the ReLUs that int8 kernels fuse. Then the whole student learns the teacher's token vectors, its tokens
(cross-entropy over the distances to the codebook entries), its group and the identity.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from edge_stscq.codec.encoder import EdgeEncoder, normalise_image
from edge_stscq.codec.trunk import IdentityTrunk, fold, prune
from edge_stscq.training.data import Loader
from edge_stscq.training.embeddings import centre
from edge_stscq.training.loop import Average, pack, pack_optimiser, rate, unpack, unpack_optimiser
from edge_stscq.training.losses import channels_last


class FadingReLU(nn.Module):
    """PReLU whose slope is scaled by `leak`, from 1 (the original) to 0 (a ReLU)."""

    slope: Tensor
    leak: Tensor

    def __init__(self, slope: Tensor) -> None:
        super().__init__()
        self.register_buffer("slope", slope.detach().clone().view(-1, 1, 1))
        self.register_buffer("leak", torch.ones(()))

    def forward(self, x: Tensor) -> Tensor:
        positive = functional.relu(x)
        if float(self.leak) == 0:
            return positive
        slope = self.slope * self.leak
        return positive * (1 - slope) + x * slope


def fade_in(small: IdentityTrunk, whole: IdentityTrunk) -> list[FadingReLU]:
    """Give the pruned trunk fading slopes, each the mean slope of the original layer."""
    slopes = [m.weight for m in whole.features if isinstance(m, nn.PReLU)]
    fading = []
    places = [i for i, m in enumerate(small.features) if isinstance(m, nn.ReLU)]
    for place, slope in zip(places, slopes, strict=True):
        layer = FadingReLU(slope.mean().view(1))
        small.features[place] = layer
        fading.append(layer)
    return fading


def fade_out(small: IdentityTrunk) -> None:
    """Put plain ReLUs back."""
    for index, layer in enumerate(small.features):
        if isinstance(layer, FadingReLU):
            small.features[index] = nn.ReLU()


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
    fade: float = 0.5
    """Share of the steps after which the slopes have gone."""
    decay: float = 0.998


class IdentityDistillation:
    """Task: the pruned trunk learns embeddings [N, 2, 128] of the originals and their mirror images.

    With `start`, the trunk of an earlier student is improved instead; its norms are folded and its ReLUs stay.
    """

    def __init__(
        self, whole: IdentityTrunk, share: float, embeddings: Tensor, loader: Loader, settings: DistillSettings,
        device: torch.device, start: IdentityTrunk | None = None,
    ) -> None:  # fmt: skip
        self.loader, self.settings, self.device, self.batch = loader, settings, device, settings.batch
        self.targets = functional.normalize(embeddings, dim=-1)
        self.trunk = start or prune(whole, share)
        self.share = share
        self.fading = [] if start else fade_in(self.trunk, whole)
        channels_last(self.trunk.train().to(device))
        self.average = Average(self.trunk, settings.decay)
        self.optimiser = torch.optim.AdamW(self.trunk.parameters(), lr=settings.rate, weight_decay=1e-4, fused=True)

    def step(self, index: int) -> dict[str, Tensor | float]:
        batch = self.loader.get(index)
        leak = max(0.0, 1 - index / (self.settings.fade * self.settings.steps))
        for layer in self.fading:
            layer.leak.fill_(leak)
        for group in self.optimiser.param_groups:
            group["lr"] = self.settings.rate * rate(index, self.settings.steps)
        target = self.targets[batch.index, batch.flip.long()].to(self.device)
        image = centre(batch.images.to(self.device)).contiguous(memory_format=torch.channels_last)
        embedding = functional.normalize(self.trunk(image))
        cosine = (embedding * target).sum(1)
        # relations between the pictures of the batch matter more for verification than the absolute place
        relation = (embedding @ embedding.t() - target @ target.t()).square().mean()
        loss = (1 - cosine).mean() + 2 * relation
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        self.optimiser.step()
        self.average.update(self.trunk, index)
        values: dict[str, Tensor | float] = {"cosine": cosine.mean().detach(), "relation": relation.detach()}
        return values | ({"leak": leak} if self.fading else {})

    def state(self) -> dict[str, Tensor]:
        return (
            pack("trunk", self.trunk.state_dict())
            | pack("average", self.average.tensors)
            | pack_optimiser("optimiser", self.optimiser)
        )

    def restore(self, state: Mapping[str, Tensor]) -> None:
        self.trunk.load_state_dict(unpack("trunk", state))
        self.average.tensors = unpack("average", state)
        unpack_optimiser("optimiser", state, self.optimiser)

    def result(self) -> IdentityTrunk:
        """The averaged trunk with plain ReLUs and folded norms, in eval mode, on the CPU."""
        self.trunk.load_state_dict(self.average.tensors)
        fade_out(self.trunk)
        trunk = self.trunk.cpu().eval()
        return fold(trunk, self.share) if isinstance(trunk.embedding_norm, nn.BatchNorm1d) else trunk

    def sample(self, path: Path) -> None:
        """Similarities of 64 pictures, the student's above the diagonal, the teacher's below it."""
        count = min(64, len(self.loader.faces))
        images = torch.from_numpy(np.stack([self.loader.faces.crop(i) for i in range(count)]))
        self.trunk.eval()
        with torch.no_grad():
            ours = functional.normalize(self.trunk(centre(images.to(self.device)))).cpu()
        self.trunk.train()
        theirs = self.targets[:count, 0]
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
        self.average = Average(self.student, settings.decay)
        head = self.student.head
        trained = list(self.student.backbone.identity.parameters())
        fitted = [p for p in (head.transform, head.pixels, head.offset) if p is not None]
        known = {id(p) for p in trained + fitted}
        rest = [p for p in self.student.parameters() if id(p) not in known]
        self.rates = (0.5 * settings.rate, 0.4 * settings.rate, 4 * settings.rate)
        self.optimiser = torch.optim.AdamW(
            [{"params": part} for part in (trained, fitted, rest)], lr=settings.rate, weight_decay=1e-4, fused=True
        )

    def step(self, index: int) -> dict[str, Tensor | float]:
        batch, weights = self.loader.get(index), self.settings
        for group, base in zip(self.optimiser.param_groups, self.rates, strict=True):
            group["lr"] = base * rate(index, weights.steps)
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
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.student.parameters(), 5.0)
        self.optimiser.step()
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
            | pack_optimiser("optimiser", self.optimiser)
        )

    def restore(self, state: Mapping[str, Tensor]) -> None:
        self.student.load_state_dict(unpack("student", state))
        self.average.tensors = unpack("average", state)
        unpack_optimiser("optimiser", state, self.optimiser)

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

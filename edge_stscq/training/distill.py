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
from torch import Tensor, nn
from torch.nn import functional

from edge_stscq.codec.encoder import EdgeEncoder, normalise_image
from edge_stscq.codec.trunk import IdentityTrunk, fold
from edge_stscq.training.data import Loader
from edge_stscq.training.embeddings import centre
from edge_stscq.training.loop import Average, pack, pack_optimiser, rate, share_gradients, unpack, unpack_optimiser
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


class IdentityDistillation:
    """Task: a plain trunk learns embeddings [N, 2, 128] of the originals and their mirror images.

    A share of every batch are blends of two faces ("mixup", Zhang et al. 2018, arXiv 1710.09412), of which the
    recogniser is asked on the spot: there are more pairs of faces than faces (Beyer et al. 2022, arXiv 2106.05237).
    """

    def __init__(
        self, trunk: IdentityTrunk, whole: IdentityTrunk, embeddings: Tensor, loader: Loader,
        settings: DistillSettings, device: torch.device,
    ) -> None:  # fmt: skip
        self.loader, self.settings, self.device, self.batch = loader, settings, device, settings.batch
        self.targets = functional.normalize(embeddings, dim=-1)
        self.whole = channels_last(fold(whole).to(device))
        self.trunk = channels_last(trunk.requires_grad_(True).train().to(device))
        self.average = Average(self.trunk, settings.decay)
        self.optimiser = torch.optim.AdamW(self.trunk.parameters(), lr=settings.rate, weight_decay=1e-4, fused=True)

    def step(self, index: int) -> dict[str, Tensor | float]:
        batch = self.loader.get(index)
        for group in self.optimiser.param_groups:
            group["lr"] = self.settings.rate * rate(index, self.settings.steps)
        target = self.targets[batch.index, batch.flip.long()].to(self.device)
        image = centre(batch.images.to(self.device)).contiguous(memory_format=torch.channels_last)
        if blended := round(self.settings.blends * len(image)):
            share = 0.5 + 0.5 * torch.rand(blended, 1, 1, 1, device=self.device)
            image[:blended] = share * image[:blended] + (1 - share) * image.flip(0)[:blended]
            with torch.no_grad():
                target[:blended] = functional.normalize(self.whole(image[:blended]))
        embedding = functional.normalize(self.trunk(image))
        cosine = (embedding * target).sum(1)
        # relations between the pictures of the batch matter more for verification than the absolute place
        relation = (embedding @ embedding.t() - target @ target.t()).square().mean()
        loss = (1 - cosine).mean() + 2 * relation
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        share_gradients(self.trunk.parameters())
        norm = nn.utils.clip_grad_norm_(self.trunk.parameters(), 1.0)
        self.optimiser.step()
        self.average.update(self.trunk, index)
        return {"cosine": cosine.mean().detach(), "relation": relation.detach(), "gradient": norm}

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
        """The averaged trunk, in eval mode, on the CPU."""
        self.trunk.load_state_dict(self.average.tensors)
        return self.trunk.cpu().eval()

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
        share_gradients(self.student.parameters())
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

"""Stage: distillation of the whole student on a teacher's token vectors, tokens, group and identity."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from edge_stscq.codec.encoder import EdgeEncoder, normalize_image
from edge_stscq.data.loader import Loader
from edge_stscq.training.losses import channels_last
from edge_stscq.training.optimization import gradient_step, lr_factor
from edge_stscq.training.preview import write_enlarged
from edge_stscq.training.stages.distillation import DistillSettings
from edge_stscq.training.state import EMA, Resumable


class TokenDistillation(Resumable):
    """Task: the whole student learns token vectors, tokens, group and identity of a frozen teacher.

    What comes trained or fitted in closed form (identity trunk, transform) learns more slowly than the rest. The
    teacher's spatial vectors are computed on the augmented picture; its identity vectors come from the cached
    embeddings of the original, so that the student learns to ignore small shifts and changes of light.
    """

    def __init__(
        self, teacher: EdgeEncoder, student: EdgeEncoder, embeddings: Tensor, loader: Loader, settings: DistillSettings,
        device: torch.device,
    ) -> None:  # fmt: skip
        self.loader, self.settings, self.device, self.batch = loader, settings, device, settings.batch
        self.teacher = channels_last(teacher.eval().requires_grad_(False).to(device))
        self.embeddings = embeddings
        self.student = student
        self.student.head.identity.load_state_dict(teacher.head.identity.state_dict())
        self.student.codebooks.load_state_dict(teacher.codebooks.state_dict())
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
        self.parts = {"student": self.student, "average": self.average, "optimiser": self.optimizer}

    def step(self, index: int) -> dict[str, Tensor | float]:
        batch, weights = self.loader.get(index), self.settings
        for group, base in zip(self.optimizer.param_groups, self.rates, strict=True):
            group["lr"] = base * lr_factor(index, weights.steps)
        self.student.train()
        image = normalize_image(batch.images.to(self.device)).contiguous(memory_format=torch.channels_last)
        who = self.embeddings[batch.index, batch.flip.long()].to(self.device)
        with torch.no_grad():
            target = self.teacher.head(who, self.teacher.backbone.spatial(image), image)
            target_group = self.teacher.choose(target, self.teacher.router(target))
            distances = self.teacher.codebooks.distances(target, target_group)
            target_tokens = distances.argmin(-1)
            scale = distances.mean((0, 2), keepdim=True) * weights.temperature / 8
        embedding, features = self.student.backbone(image)
        z = self.student.head(embedding, features, image)
        logits = self.student.router(z)
        spread = target.var((0, 2), keepdim=True).clamp_min(1e-4)
        vectors = ((z - target).square() / spread).mean()
        scores = -self.student.codebooks.distances(z, target_group) / scale
        tokens = functional.cross_entropy(scores.flatten(0, 1), target_tokens.flatten())
        group_loss = functional.cross_entropy(logits, target_group)
        cosine = (functional.normalize(embedding) * functional.normalize(who)).sum(1).mean()
        loss = (
            weights.vectors * vectors
            + weights.tokens * tokens
            + weights.group * group_loss
            + weights.identity * (1 - cosine)
        )
        gradient_step(loss, self.optimizer, list(self.student.parameters()), clip=5.0)
        self.average.update(self.student, index)
        return {
            "vectors": vectors.detach(), "tokens": tokens.detach(), "group": group_loss.detach(),
            "cosine": cosine.detach(), "agreement": (scores.argmax(-1) == target_tokens).float().mean(),
            "group_agreement": (logits.argmax(-1) == target_group).float().mean(),
        }  # fmt: skip

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
        both = [network.analyse(images).z.flatten(1) for network in (self.teacher, self.student)]
        picture = (torch.cat(both) * 40 + 128).clamp(0, 255).byte().cpu().numpy()
        write_enlarged(path, picture, 2, 4)

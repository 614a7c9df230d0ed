"""Training of the decoder on tokens, within what is picture, with a critic from a later step on.

Pixels are compared where there is picture. For recognizers and the frozen network's features the decoded face is put
into the original outside of it; the critic sees both masked to grey. Faces are aligned, so eyes, nose and mouth lie at
the same pixels in every crop: a window on them is a term of its own in pixels and features.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn

from edge_stscq.codec.codebooks import SwitchedCodebooks
from edge_stscq.codec.decoder import Decoder
from edge_stscq.codec.encoder import normalize_image
from edge_stscq.codec.pooling import face_density
from edge_stscq.config.recipe import DecoderTraining, odds
from edge_stscq.data.loader import FaceSet, Loader
from edge_stscq.training.losses import FrozenRecognizer, View, channels_last, excess_total_variation
from edge_stscq.training.optimization import gradient_step, lr_factor
from edge_stscq.training.precision import Precision
from edge_stscq.training.preview import contact_sheet
from edge_stscq.training.stages.critic import Augmentation, Critic, FrozenFeatures, hinge, perceptual_distance
from edge_stscq.training.state import EMA, Resumable, part_of

_BETAS = (0.0, 0.99)
_FEATURES_SHARE = 0.5
"""Weight that the window of eyes, nose and mouth adds to a pixel, relative to an even weight."""


class Encoder(Protocol):
    """Encoder as the decoder's training needs it."""

    codebooks: SwitchedCodebooks

    def vectors(self, image: Tensor) -> Tensor: ...

    def choose(self, z: Tensor) -> Tensor: ...


class DecoderStage(Resumable):
    """Task: the decoder and its critic learn; encoder and codebooks stay as they are."""

    def __init__(
        self, encoder: Encoder, decoder: Decoder, recognizers: Sequence[FrozenRecognizer], loader: Loader,
        preview: FaceSet, plan: DecoderTraining, average: float, precision: Precision, device: torch.device,
    ) -> None:  # fmt: skip
        assert isinstance(encoder, nn.Module)
        self.loader, self.preview, self.plan, self.device, self.precision = loader, preview, plan, device, precision
        self.batch = loader.batch
        self.encoder = encoder.to(device).eval().requires_grad_(False)
        self.decoder = channels_last(decoder.to(device)).train().requires_grad_(True)
        self.recognizers = [recognizer.to(device) for recognizer in recognizers]
        self.features = FrozenFeatures().to(device)
        self.trained = list(self.decoder.parameters())
        self.optimizer = torch.optim.AdamW(self.trained, lr=plan.rate, betas=_BETAS, weight_decay=1e-4, fused=True)
        self.average = EMA(self.decoder, average)
        self.parts = {"decoder": self.decoder, "average": self.average, "optimiser": self.optimizer}
        self.critic: Critic | None = None
        if plan.critic is not None:
            self.critic = Critic().to(device)
            heads = self.critic.heads.parameters()
            self.critic_optimizer = torch.optim.AdamW(heads, lr=plan.critic.rate, betas=_BETAS)
            self.parts |= {"critic": self.critic.heads, "critic_optimiser": self.critic_optimizer}
        layers = len(decoder.config.layers)
        self.odds = torch.tensor(odds(plan.layer_odds, layers))
        density = face_density(128).to(device)
        self.importance = (1 - _FEATURES_SHARE) + _FEATURES_SHARE * density / density.mean()

    def received(self, crops: Tensor) -> Tensor:
        """Codewords [N, T, D] of crops, of which those between two entries may be the neighbor's."""
        z = self.encoder.vectors(crops)
        if self.plan.noise:
            z = z + self.plan.noise * z.std(0, keepdim=True) * torch.randn_like(z)
        group = self.encoder.choose(z)
        books: SwitchedCodebooks = self.encoder.codebooks
        return books.lookup(group, books.nearness(z, group).argmin(-1))

    def step(self, index: int) -> dict[str, Tensor | float]:
        plan, weights = self.plan, self.plan.losses
        layers = len(self.decoder.config.layers)
        for group in self.optimizer.param_groups:
            group["lr"] = plan.rate * lr_factor(index, plan.steps)
        batch = self.loader.get(index)
        crops = batch.images.to(self.device)
        mask = (batch.masks.to(self.device) > 0).float()[:, None]
        target = normalize_image(crops).contiguous(memory_format=torch.channels_last)
        with torch.no_grad():
            codewords = self.received(crops)
            target_maps = self.features(target)
        received = torch.multinomial(self.odds, len(crops), replacement=True).to(self.device) + 1
        near, same = (
            torch.tensor(factors, device=self.device)[received - 1]
            for factors in (weights.pixel_factors(layers), weights.identity_factors(layers))
        )
        with self.precision.autocast(self.device):
            decoded = self.decoder(codewords, received)
        decoded = decoded.float()
        inside = mask * self.importance
        apart = (decoded - target).abs().mean(1, keepdim=True) * inside
        pixel = apart.sum((1, 2, 3)) / inside.sum((1, 2, 3)).clamp_min(1)
        placed = decoded * mask + target * (1 - mask)
        half = slice(0, (len(crops) + 1) // 2) if index % 2 else slice(len(crops) // 2, None)
        recognizer, view = self.recognizers[(index // 2) % len(self.recognizers)], View.draw()
        with self.precision.autocast(self.device):
            look = perceptual_distance(self.features(placed), target_maps)
            who = recognizer(placed[half], view).embedding.float()
            with torch.no_grad():
                whom = recognizer(target[half], view).embedding.float()
        cosine = (who * whom).sum(1)
        rough = excess_total_variation(placed, target) if weights.smooth else pixel.new_zeros(())
        loss = (near * (weights.pixel * pixel + weights.perceptual * look) + weights.smooth * rough).mean()
        loss = loss + weights.identity * (same[half] * (1 - cosine)).mean()
        values: dict[str, Tensor | float] = {
            "pixel": pixel.mean().detach(), "perceptual": look.mean().detach(), "cosine": cosine.mean().detach(),
        }  # fmt: skip
        if self.critic is not None:
            loss = loss + self._criticize(index, decoded * mask, target * mask, received, values)
        values["gradient"] = gradient_step(loss, self.optimizer, self.trained, clip=2.0)
        self.average.update(self.decoder, index)
        for layer in range(1, layers + 1):
            if bool((received[half] == layer).any()):
                values[f"cosine_{layer}"] = cosine[received[half] == layer].mean().detach()
        return values

    def _criticize(
        self, index: int, decoded: Tensor, target: Tensor, received: Tensor, values: dict[str, Tensor | float]
    ) -> Tensor | float:
        """Train the critic on this batch, from a little before it is listened to, and return what it says.

        A face of few layers can be listened to less: what its bytes leave open has no likeliest picture, and a decoder
        that must please puts the same one behind everybody.
        """
        plan, critic = self.plan.critic, self.critic
        assert plan is not None
        assert critic is not None
        begin = plan.begin * self.plan.steps
        if index < begin - 0.05 * self.plan.steps:
            return 0.0
        change = Augmentation(len(decoded), decoded.shape[-1], self.device)
        with self.precision.autocast(self.device):
            fake_maps = self.features(change(decoded))
            with torch.no_grad():
                real_maps = self.features(change(target))
            fake, real = critic([x.detach() for x in fake_maps]).float(), critic(real_maps).float()
        critic_loss = hinge(real, True) + hinge(fake, False)
        gradient_step(critic_loss, self.critic_optimizer, list(critic.heads.parameters()))
        values |= {"critic": critic_loss.detach(), "real": real.mean().detach(), "fake": fake.mean().detach()}
        if index < begin:
            return 0.0
        critic.requires_grad_(False)
        with self.precision.autocast(self.device):
            said = -critic(fake_maps).float().sum(1)
        critic.heads.requires_grad_(True)
        values["adversarial"] = said.mean().detach()
        factors = torch.tensor(plan.factors(len(self.decoder.config.layers)), device=self.device)
        return plan.weight * (factors[received - 1] * said).mean()

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Take back a state.

        Raises:
            ValueError: it has a critic and the recipe has none, or the other way round.
        """
        if bool(part_of(state, "critic")) != (self.critic is not None):
            raise ValueError("it was made without a critic" if self.critic else "it was made with a critic")
        super().restore(state)

    def result(self) -> Decoder:
        """The decoder with its averaged weights, on the CPU."""
        self.decoder.load_state_dict(self.average.tensors)
        return self.decoder.cpu().eval()

    def sample(self, path: Path) -> None:
        with self.average.applied_to(self.decoder):
            contact_sheet(path, self.encoder, self.decoder, self.preview, self.device)  # type: ignore[arg-type]

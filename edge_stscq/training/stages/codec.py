"""One stage of codec training: encoder, router, codebooks and decoder under the hybrid metric."""

from contextlib import AbstractContextManager
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from edge_stscq.codec.decoder import Decoder
from edge_stscq.codec.encoder import EdgeEncoder, normalize_image
from edge_stscq.config.recipe import Recipe, Stage, odds
from edge_stscq.data.loader import FaceSet, Loader
from edge_stscq.training.losses import (
    Discriminator,
    FrozenRecognizer,
    View,
    channels_last,
    excess_total_variation,
    least_squares,
    perceptual_loss,
)
from edge_stscq.training.optimization import gradient_step, lr_factor
from edge_stscq.training.preview import contact_sheet
from edge_stscq.training.stages.codebook_ema import CodebookEMA
from edge_stscq.training.stages.router_losses import group_usage, router_losses
from edge_stscq.training.state import EMA, Resumable

_RESEED_EVERY = 50
_FITTED_PACE = 0.1
"""Learning rate of what starts from a closed form, relative to the rest."""


class CodecStage(Resumable):
    """Task: one stage of the recipe. The identity trunk stays frozen and is read from cached embeddings."""

    def __init__(
        self, encoder: EdgeEncoder, decoder: Decoder, recognizer: FrozenRecognizer, embeddings: Tensor, loader: Loader,
        preview: FaceSet, recipe: Recipe, stage: Stage, device: torch.device,
    ) -> None:  # fmt: skip
        self.loader, self.recipe, self.stage, self.device = loader, recipe, stage, device
        self.preview, self.embeddings, self.batch = preview, embeddings, recipe.batch
        encoder.backbone.identity.requires_grad_(False)
        self.nets = channels_last(nn.ModuleDict({
            "spatial": encoder.backbone.spatial, "head": encoder.head, "router": encoder.router, "decoder": decoder,
            "codebooks": encoder.codebooks,
        }).to(device))  # fmt: skip
        self.encoder, self.decoder, self.recognizer = encoder, decoder, recognizer.to(device)
        self.frozen = stage.tokens == "frozen"
        self.still = self.frozen or not stage.train_encoder
        for name in ("spatial", "head"):
            self.nets[name].requires_grad_(not self.still)
        self.nets["router"].requires_grad_(not self.frozen)
        if not recipe.codec.regional_pooling:
            encoder.head.pooling.requires_grad_(False)
        head = encoder.head
        fitted = {id(p) for p in (head.transform, head.pixels, head.offset, *decoder.sketches.parameters())}
        self.trained = [p for p in self.nets.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(
            [
                {"params": [p for p in self.trained if id(p) not in fitted], "pace": 1.0},
                {"params": [p for p in self.trained if id(p) in fitted], "pace": _FITTED_PACE},
            ],
            lr=stage.rate, betas=(0.9, 0.99), weight_decay=1e-4, fused=True,
        )  # fmt: skip
        self.codebook_ema = CodebookEMA(encoder.codebooks, recipe.codebook_decay).to(device)
        self.codebook_ema.reset(encoder.codebooks)
        self.average = EMA(self.nets, recipe.average)
        self.parts = {
            "nets": self.nets, "average": self.average, "codebooks": self.codebook_ema,
            "optimiser": self.optimizer,
        }  # fmt: skip
        self.critic: Discriminator | None = None
        if stage.losses.adversarial:
            self.critic = Discriminator().to(device)
            self.critic_optimizer = torch.optim.AdamW(self.critic.parameters(), lr=2e-4, betas=(0.5, 0.99))
            self.parts |= {"critic": self.critic, "critic_optimiser": self.critic_optimizer}
        self.layers = len(recipe.codec.layers)
        self.odds = torch.tensor(odds(stage.layer_odds, self.layers))
        self.pixel_factors = torch.tensor(stage.losses.pixel_factors(self.layers), device=device)
        self.identity_factors = torch.tensor(stage.losses.identity_factors(self.layers), device=device)

    def _precision(self) -> AbstractContextManager[None]:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda")

    def step(self, index: int) -> dict[str, Tensor | float]:
        batch = self.loader.get(index)
        weights = self.stage.losses
        for group in self.optimizer.param_groups:
            group["lr"] = group["pace"] * self.stage.rate * lr_factor(index, self.stage.steps)
        self.nets.train(True)
        if self.still:  # batch norms keep their averages
            self.nets["spatial"].eval()
        image = normalize_image(batch.images.to(self.device)).contiguous(memory_format=torch.channels_last)
        who = self.embeddings[batch.index, batch.flip.long()].to(self.device)
        with self._precision():
            z = self.encoder.head.order(
                self.encoder.head.identity(who), self.encoder.head.spatial(self.nets["spatial"](image), image)
            ).float()
        logits = self.encoder.router(z.detach())
        chosen = logits.argmax(-1)
        tokens = self.encoder.codebooks.distances(z.detach(), chosen).argmin(-1)
        words = self.encoder.codebooks.lookup(chosen, tokens)
        commitment = (z - words).square().mean()
        straight = z + (words - z).detach()
        received = torch.multinomial(self.odds, len(z), replacement=True).to(self.device) + 1
        with self._precision():
            decoded = self.decoder(straight, received, self.stage.size)
        decoded = decoded.float()
        target = functional.interpolate(image, size=self.stage.size, mode="area")
        layer_weight = self.pixel_factors[received - 1]
        pixel = ((decoded - target).abs().mean((1, 2, 3)) * layer_weight).mean()
        loss = weights.pixel * pixel
        values: dict[str, Tensor | float] = {"pixel": pixel.detach()}
        if weights.smooth:
            loss = loss + weights.smooth * excess_total_variation(decoded, target).mean()
        loss = loss + self._semantics(decoded, target, who, received, values)
        if not self.frozen:
            routed = router_losses(logits, self.encoder.codebooks.group_errors(z.detach()))
            loss = (
                loss
                + weights.commitment * commitment
                + weights.router
                * (
                    routed.quantization
                    + weights.router_entropy * routed.entropy
                    + weights.router_decision * routed.decision
                )
            )
            values |= {"commitment": commitment.detach(), "router": routed.quantization.detach()}
        if self.critic is not None:
            loss = loss + weights.adversarial * self._adversary(decoded, target, values)
        norm = gradient_step(loss, self.optimizer, self.trained, clip=2.0)
        if not self.frozen:
            self.codebook_ema.update(self.encoder.codebooks, z.detach(), chosen, tokens)
            if (index + 1) % _RESEED_EVERY == 0 and index < 0.7 * self.stage.steps:
                values["reseeded"] = self.codebook_ema.replace_dead_entries(self.encoder.codebooks, z.detach(), chosen)
        self.average.update(self.nets, index)
        use = (self.codebook_ema.counts > 0.1 * self.codebook_ema.counts.mean(-1, keepdim=True)).float()
        groups = group_usage(chosen, self.recipe.codec.groups)
        values |= {
            "gradient": norm, "use": use.mean(), "least_use": use.mean(-1).min(), "rarest_group": groups.min(),
        }  # fmt: skip
        return values

    def _semantics(
        self, decoded: Tensor, target: Tensor, who: Tensor, received: Tensor, values: dict[str, Tensor | float]
    ) -> Tensor:
        """Perceptual and identity losses on a part of the batch."""
        weights, count = self.stage.losses, round(self.stage.semantic_share * len(decoded))
        if count == 0 or (weights.perceptual == 0 and weights.identity == 0):
            return decoded.new_zeros(())
        view = View.draw()
        with self._precision():
            seen = self.recognizer(decoded[:count], view)
            with torch.no_grad():
                wanted = self.recognizer.features(target[:count], view)
        cosine = (seen.embedding.float() * functional.normalize(who[:count])).sum(1)
        by_layer = self.identity_factors[received[:count] - 1]
        pixel_by_layer = self.pixel_factors[received[:count] - 1]
        look = (perceptual_loss(seen.features, wanted) * pixel_by_layer).mean()
        values |= {"perceptual": look.detach(), "cosine": cosine.mean().detach()}
        for layer in range(1, 1 + self.layers):
            if bool((received[:count] == layer).any()):
                values[f"cosine_{layer}"] = cosine[received[:count] == layer].mean().detach()
        return weights.perceptual * look + weights.identity * ((1 - cosine) * by_layer).mean()

    def _adversary(self, decoded: Tensor, target: Tensor, values: dict[str, Tensor | float]) -> Tensor:
        """Train the critic on this batch and return the decoder's adversarial loss."""
        assert self.critic is not None
        fake, real = self.critic(decoded.detach()), self.critic(target)
        critic_loss = least_squares(real, True) + least_squares(fake, False)
        gradient_step(critic_loss, self.critic_optimizer, list(self.critic.parameters()))
        self.critic.requires_grad_(False)
        loss = least_squares(self.critic(decoded), True)
        self.critic.requires_grad_(True)
        values |= {"critic": critic_loss.detach(), "adversarial": loss.detach()}
        return loss

    def finish(self) -> None:
        """Put the averaged weights in place."""
        self.nets.load_state_dict(self.average.tensors)
        self.nets.eval()

    def sample(self, path: Path) -> None:
        self.nets.eval()
        with self.average.applied_to(self.nets):
            contact_sheet(path, self.encoder, self.decoder, self.preview, self.device, self.stage.size)

"""Fine-tuning of the decoder on what it will receive: the tokens of the device's encoder.

Several recognizers look at every picture in turn, each time from a slightly different place and at a different
sharpness: what pleases all of them is the person, what pleases one of them alone is a pattern.
"""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from edge_stscq.codec.decoder import Decoder
from edge_stscq.codec.encoder import EdgeEncoder, normalize_image
from edge_stscq.config.recipe import Finetuning, odds
from edge_stscq.data.loader import FaceSet, Loader
from edge_stscq.training.losses import FrozenRecognizer, View, channels_last, excess_total_variation, perceptual_loss
from edge_stscq.training.optimization import gradient_step, lr_factor
from edge_stscq.training.preview import contact_sheet
from edge_stscq.training.state import EMA, Resumable


class DecoderFinetuning(Resumable):
    """Task: the decoder learns, encoder and codebooks stay as they are."""

    def __init__(
        self, encoder: EdgeEncoder, decoder: Decoder, recognizers: Sequence[FrozenRecognizer], loader: Loader,
        preview: FaceSet, plan: Finetuning, average: float, device: torch.device,
    ) -> None:  # fmt: skip
        self.loader, self.preview, self.plan, self.device = loader, preview, plan, device
        self.batch = loader.batch
        self.encoder = encoder.to(device).eval().requires_grad_(False)
        self.decoder = channels_last(decoder.to(device)).train().requires_grad_(True)
        self.recognizers = [recognizer.to(device) for recognizer in recognizers]
        self.trained = list(self.decoder.parameters())
        self.optimizer = torch.optim.AdamW(self.trained, lr=plan.rate, betas=(0.9, 0.99), weight_decay=1e-4, fused=True)
        self.average = EMA(self.decoder, average)
        self.parts = {"decoder": self.decoder, "average": self.average, "optimiser": self.optimizer}
        self.layers = len(decoder.config.layers)
        self.odds = torch.tensor(odds(plan.layer_odds, self.layers))
        self.pixel_factors = torch.tensor(plan.losses.pixel_factors(self.layers), device=device)
        self.identity_factors = torch.tensor(plan.losses.identity_factors(self.layers), device=device)

    def step(self, index: int) -> dict[str, Tensor | float]:
        weights = self.plan.losses
        for group in self.optimizer.param_groups:
            group["lr"] = self.plan.rate * lr_factor(index, self.plan.steps)
        crops = self.loader.get(index).images.to(self.device)
        target = normalize_image(crops).contiguous(memory_format=torch.channels_last)
        with torch.no_grad():
            codewords = self.received(crops)
        received = torch.multinomial(self.odds, len(crops), replacement=True).to(self.device) + 1
        recognizer, view = self.recognizers[index % len(self.recognizers)], View.draw()
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda"):
            decoded = self.decoder(codewords, received)
            seen = recognizer(decoded, view)
            with torch.no_grad():
                wanted = recognizer(target, view)
        pixel = (decoded.float() - target).abs().mean((1, 2, 3))
        look = perceptual_loss(seen.features, wanted.features)
        cosine = (seen.embedding.float() * wanted.embedding.float()).sum(1)
        near, same = self.pixel_factors[received - 1], self.identity_factors[received - 1]
        rough = excess_total_variation(decoded.float(), target)
        loss = (
            near * (weights.pixel * pixel + weights.perceptual * look)
            + same * weights.identity * (1 - cosine)
            + weights.smooth * rough
        ).mean()
        norm = gradient_step(loss, self.optimizer, self.trained, clip=2.0)
        self.average.update(self.decoder, index)
        by_layer = {
            f"cosine_{layer}": cosine[received == layer].mean().detach()
            for layer in range(1, 1 + self.layers)
            if bool((received == layer).any())
        }
        return {
            "pixel": pixel.mean().detach(), "perceptual": look.mean().detach(), "cosine": cosine.mean().detach(),
            "rough": rough.mean().detach(), "gradient": norm,
        } | by_layer  # fmt: skip

    def received(self, crops: Tensor) -> Tensor:
        """Codewords [N, T, D] of the encoder's tokens, of which those between two entries may be the neighbour's."""
        seen = self.encoder.analyse(crops)
        noise = self.plan.noise * seen.z.std(0, keepdim=True) * torch.randn_like(seen.z)
        tokens = self.encoder.codebooks.nearness(seen.z + noise, seen.group).argmin(-1)
        return self.encoder.codebooks.lookup(seen.group, tokens)

    def result(self) -> Decoder:
        """The decoder with its averaged weights, on the CPU."""
        self.decoder.load_state_dict(self.average.tensors)
        return self.decoder.cpu().eval()

    def sample(self, path: Path) -> None:
        with self.average.applied_to(self.decoder):
            contact_sheet(path, self.encoder, self.decoder, self.preview, self.device)

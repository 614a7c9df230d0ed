"""Codewords that the decoder learns from: the student's tokens, some of them a neighbour's."""

from collections.abc import Callable

import torch

from edge_stscq.codec.decoder import Decoder
from edge_stscq.codec.encoder import student
from edge_stscq.config.recipe import Finetuning
from edge_stscq.data.loader import Augmentation, FaceSet, Loader
from edge_stscq.training.stages.decoder_finetuning import DecoderFinetuning
from tests.training.tiny import CODEC


def test_noise_moves_some_tokens_to_another_entry(faces: FaceSet) -> None:
    """Noise moves some tokens to another entry of their codebook."""
    torch.manual_seed(0)
    encoder = student(CODEC).eval()
    crops = Loader(faces, 16, 1, Augmentation()).get(0).images
    group, tokens = encoder(crops)
    sent = encoder.codebooks.lookup(group, tokens)

    received: Callable[[float], torch.Tensor] = lambda noise: DecoderFinetuning(  # noqa: E731
        encoder, Decoder(CODEC), [], Loader(faces, 2, 1, Augmentation()), faces, Finetuning(steps=1, noise=noise), 0.9,
        torch.device("cpu"),
    ).received(crops)  # fmt: skip

    assert torch.equal(received(0.0), sent)
    kept = (received(0.1) == sent).all(-1).float().mean()
    assert 0.5 < kept < 1
    assert (received(1.0) == sent).all(-1).float().mean() < kept
    entries = encoder.codebooks.books[group.long()]
    assert (received(1.0)[:, :, None] == entries).all(-1).any(-1).all()

"""Take over a decoder from a model with other codebooks: what the tokens say is translated, the rest is kept."""

import torch
from torch import Tensor, nn

from edge_stscq.codec.decoder import Decoder
from edge_stscq.training.init.linear import ridge

_OWN = ("codebooks.", "sketches.", "absent", "style.0.")
"""Beginnings of the names of weights that depend on what tokens mean."""


@torch.no_grad()
def translate_decoder(decoder: Decoder, earlier: Decoder, words: Tensor, earlier_words: Tensor) -> None:
    """Copy an earlier decoder's networks, in place; its style reads the new codewords through a linear translation.

    Args:
        words, earlier_words: codewords [n, T, D] of the same n faces in both models.

    Raises:
        ValueError: the networks have other widths.
    """
    kept = {k: v for k, v in earlier.state_dict().items() if not k.startswith(_OWN)}
    missing = decoder.load_state_dict(decoder.state_dict() | kept, strict=True)
    assert not missing.missing_keys
    new, old = decoder.style[0], earlier.style[0]
    assert isinstance(new, nn.Linear)
    assert isinstance(old, nn.Linear)
    ours = words[:, : decoder.style_tokens].flatten(1)
    theirs = earlier_words[:, : earlier.style_tokens].flatten(1)
    weight, bias = ridge(ours, theirs, 1e-3)
    new.weight.zero_()
    inputs, flags = ours.shape[1], len(earlier.config.layers) - 1
    new.weight[:, :inputs] = old.weight[:, : theirs.shape[1]] @ weight.t()
    new.weight[:, inputs : inputs + flags] = old.weight[:, theirs.shape[1] :]
    new.bias.copy_(old.bias + old.weight[:, : theirs.shape[1]] @ bias)
    decoder.absent.copy_(words.mean(0))

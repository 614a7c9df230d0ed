"""First decoder of an integer codec: sketches in closed form, networks taken over from an earlier model."""

import shutil
from pathlib import Path

import torch
from torch import Tensor, nn

from edge_stscq._reporter import Reporter
from edge_stscq.codec import store
from edge_stscq.codec.decoder import Decoder
from edge_stscq.codec.integer.encoder import ReferenceEncoder
from edge_stscq.data.loader import FaceSet
from edge_stscq.errors import EdgeError
from edge_stscq.training.init.linear import fit_sketch
from edge_stscq.training.init.ridge import ridge_regression
from edge_stscq.training.init.samples import Coded, batches

_TRAINING = "training"
"""Folder of a model with what its training goes on from, in float16."""
_OWN = ("codebooks.", "sketches.", "absent", "style.0.")
"""Beginnings of the names of weights that depend on what tokens mean."""
_TRANSLATED = 4000
"""Faces by which a style is translated from one model's codewords to another's."""


def save_training(folder: Path, decoder: Decoder, heads: dict[str, Tensor] | None) -> None:
    """Write what the training of a model's decoder goes on from: its averaged weights, and the critic's heads."""
    kept = folder / _TRAINING
    shutil.rmtree(kept, ignore_errors=True)
    kept.mkdir()
    average = {name: value for name, value in decoder.state_dict().items() if not name.startswith("codebooks.")}
    store.save_weights(kept / "decoder.safetensors", average, torch.float16)
    if heads is not None:
        store.save_weights(kept / "critic.safetensors", heads, torch.float16)


def load_training(folder: Path, decoder: Decoder) -> dict[str, Tensor] | None:
    """Bring a model's decoder to where its training stopped, in place; returns the critic's heads, if it has any.

    Raises:
        EdgeError: the file is of another decoder.
    """
    average, heads = folder / _TRAINING / "decoder.safetensors", folder / _TRAINING / "critic.safetensors"
    if average.exists():
        state = decoder.state_dict()
        kept = store.load_weights(average)
        if unknown := kept.keys() - state.keys():
            raise EdgeError(f"{average} does not fit the decoder beside it: it has {min(unknown)}; remove the folder")
        try:
            decoder.load_state_dict(state | kept)
        except RuntimeError as error:
            raise EdgeError(f"{average} does not fit: {str(error).splitlines()[-1].strip()}") from None
    return store.load_weights(heads) if heads.exists() else None


@torch.no_grad()
def first_decoder(
    encoder: ReferenceEncoder, coded: Coded, thumbnails: Tensor, start: Path | None, faces: FaceSet,
    indices: list[int], reporter: Reporter, device: torch.device,
) -> Decoder:  # fmt: skip
    """A decoder with sketches for an encoder's codewords; its networks are those of a model to start from.

    Args:
        coded, thumbnails: of `indices`, each followed by its mirror image.

    Raises:
        EdgeError: the decoder to start from has other widths.
    """
    decoder = Decoder(encoder.config)
    decoder.codebooks.books.copy_(encoder.codebooks.books)
    if start is not None:
        earlier = store.load_decoder(start)
        load_training(start, earlier)
        same = earlier.config.layers == encoder.config.layers
        if same and torch.equal(earlier.codebooks.books, encoder.codebooks.books):
            decoder.load_state_dict(earlier.state_dict())
            return decoder
        device_encoder = store.load_student(start).to(device)
        step = max(1, len(indices) // _TRANSLATED)
        words = []
        for crops in batches(faces, indices[::step], "tokens of the model to start from", reporter):
            seen = device_encoder.analyse(crops[::2].to(device))
            words.append(device_encoder.codebooks.lookup(seen.group, seen.tokens).cpu())
        try:
            translate_decoder(decoder, earlier, coded.words[::2][::step], torch.cat(words))
        except (RuntimeError, ValueError) as error:
            reason = str(error).splitlines()[-1].strip()
            raise EdgeError(f"the decoder of {start} does not fit the recipe's: {reason}; leave --start out") from None
    fit_sketch(decoder, coded.words, thumbnails)
    return decoder


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
    now = words[:, : decoder.style_tokens].flatten(1)
    before = earlier_words[:, : earlier.style_tokens].flatten(1)
    weight, bias = ridge_regression(now, before)
    new.weight.zero_()
    inputs, flags = now.shape[1], len(earlier.config.layers) - 1
    new.weight[:, :inputs] = old.weight[:, : before.shape[1]] @ weight.t()
    new.weight[:, inputs : inputs + flags] = old.weight[:, before.shape[1] :]
    new.bias.copy_(old.bias + old.weight[:, : before.shape[1]] @ bias)
    decoder.absent.copy_(words.mean(0))

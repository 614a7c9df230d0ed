"""Fit of the learned entropy model, in float, and its rounding to eight bits: writes a model's `learned.safetensors`.

    EDGE_STSCQ_DATA=DIR python -m benchmarks.codec.entropy_fit [--model DIR] --bundle BUNDLE --cache DIR

The model is the linear softmax of `benchmarks.codec.entropy`. Code words are rounded before the fit, so that it sees
what the coder will see; weights are rounded behind it, each row of them to a power of two. LFW's pairs are not looked
at. Any model folder whose tokens are arranged in layers will do.
"""

import math
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from torch import Tensor

from benchmarks.codec.entropy_models import LinearSoftmax, Tokens
from benchmarks.codec.entropy_training import fit, training_tokens
from benchmarks.released import MODEL
from edge_stscq.codec.model import Codec
from edge_stscq.evaluation.artifact import coded_by
from edge_stscq.stream.learned.weights import FILE, MOST, SQUARE_SHIFT, TILT_STEP, WORD_STEP, Weights

_SQUARE_STEP = WORD_STEP**2 >> SQUARE_SHIFT
"""Steps of a square of one unit."""
_MOST_SHIFT = 11
"""A tilt at its limit, raised by so many bits, still is below `2**24`."""


class RoundedSoftmax(LinearSoftmax):
    """The linear softmax of code words that have eight bits a component."""

    words: Tensor

    def __init__(self, own: Tensor, books: Tensor, ends: tuple[int, ...]) -> None:
        super().__init__(own, books, ends)
        words = (self.books[..., : books.shape[-1]] * WORD_STEP).round().clamp(-MOST, MOST).int()
        self.register_buffer("words", words, persistent=False)
        squares = words * words >> SQUARE_SHIFT
        self.books = torch.cat([words / WORD_STEP, squares / _SQUARE_STEP], -1)

    def unit(self, faces: Tokens) -> Tensor:
        """Rounded code words `[N, T, D]`."""
        place = torch.arange(faces.tokens.shape[1])
        return self.words[faces.group[:, None], place, faces.tokens] / WORD_STEP

    @torch.no_grad()
    def rounded(self, ends: tuple[int, ...]) -> Weights:
        """The weights in whole numbers."""
        groups, positions, entries, dim = self.words.shape
        steps = torch.tensor([TILT_STEP, TILT_STEP * WORD_STEP // _SQUARE_STEP]).repeat_interleave(dim) / math.log(2)
        whole = (self.weight * self.allowed).view(positions, 2 * dim, positions, dim)
        whole = whole * steps[:, None, None] / WORD_STEP
        largest = whole.abs().amax((2, 3)).clamp_min(MOST / 2**_MOST_SHIFT)
        shifts = (MOST / largest).log2().floor().clamp(0, _MOST_SHIFT)
        scale = shifts.exp2()
        bias = (self.bias * steps * scale).round() + (scale / 2).floor()  # the half rounds what is shifted
        whole = (whole * scale[..., None, None]).round().clamp(-MOST, MOST).to(torch.int8)
        parts = tuple(
            whole[start:end, :, :start].contiguous().numpy() for start, end in zip(ends, ends[1:], strict=False)
        )
        limit = 2**24 - 1
        return Weights(
            self.words.to(torch.int8).numpy(), bias.clamp(-limit, limit).int().numpy(),
            shifts.to(torch.uint8).numpy(), parts,
        )  # fmt: skip


def main(
    data: Annotated[Path, typer.Option(envvar="EDGE_STSCQ_DATA", help="Folder with faces/.")],
    bundle: Annotated[Path, typer.Option(help="Bundle that encodes the crops.")],
    cache: Annotated[Path, typer.Option(help="Folder that keeps tokens.")],
    model: Annotated[Path, typer.Option(help="Model folder.")] = MODEL,
    portraits: Annotated[int, typer.Option(min=0, max=8, help="Archives of `faces/train-0N.tar` to fit on.")] = 0,
    epochs: Annotated[int, typer.Option(min=1, help="At most.")] = 3,
) -> None:
    """Write learned.safetensors into the model folder."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    codec = coded_by(Codec.load(model), bundle)
    assert codec.tables is not None
    books, ends = torch.from_numpy(codec.books.copy()), codec.config.layer_ends
    found, kept_out = training_tokens(codec, data / "faces", cache, portraits)
    train, held = (Tokens.of(part, books) for part in (found[~kept_out], found[kept_out]))
    own = torch.from_numpy(codec.tables.frequencies.astype(np.float32) / 65536).log2()
    network = RoundedSoftmax(own, books, ends)
    fit(network, train, held, epochs)
    weights = network.rounded(ends)
    weights.save(model / FILE)
    typer.echo(f"{model / FILE}: {(model / FILE).stat().st_size:,} bytes, fitted on {len(train):,} crops")


if __name__ == "__main__":
    typer.run(main)

"""Fit of an entropy model on training crops: which crops, for how long, and how long their tokens then are."""

import copy
import math
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from benchmarks.codec.entropy_models import Tokens
from benchmarks.codec.entropy_tokens import tokens
from edge_stscq.codec.model import Codec
from edge_stscq.stream import Codes

BATCH = 128
HELD_OUT = 12
"""One training crop in so many stops the fit."""


def training_tokens(codec: Codec, faces: Path, cache: Path, portraits: int) -> tuple[Codes, NDArray[np.bool_]]:
    """Codes of the training crops, and which of them are held out; a face and its mirror image are on one side.

    Args:
        faces: folder of the archives.
        portraits: how many of `train-0N.tar` there are besides the crops of LFW's other people and of the Congress.
    """
    names = ["train-lfw-extra", "train-congress"]
    found = [tokens(codec, faces / f"{name}.tar", cache, mirrored=True) for name in names]
    found += [tokens(codec, faces / f"train-{number:02d}.tar", cache) for number in range(portraits)]
    pictures = [len(part) // 2 for part in found[: len(names)]] + [len(part) for part in found[len(names) :]]
    kept_out = [np.arange(len(part)) % count % HELD_OUT == 0 for part, count in zip(found, pictures, strict=True)]
    return Codes.concatenate(found), np.concatenate(kept_out)


def evaluate(network: nn.Module, faces: Tokens) -> Tensor:
    """Bits `[N, T]` of each token."""
    network.eval()
    with torch.inference_mode():
        parts: list[Tensor] = [network(faces[start : start + 256]) for start in range(0, len(faces), 256)]
    return torch.cat(parts)


def fit(network: nn.Module, train: Tokens, held: Tokens, epochs: int) -> None:
    """Fit by Adam, with the parameters that were best on `held` at the end; gives up after two epochs without gain."""
    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3, weight_decay=0.05)
    steps = epochs * math.ceil(len(train) / BATCH)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    best, kept, since = float(evaluate(network, held).mean()), copy.deepcopy(network.state_dict()), 0
    for epoch in range(epochs):
        network.train()
        for rows in torch.randperm(len(train)).split(BATCH):
            loss = network(train[rows]).mean()
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            schedule.step()
        now = float(evaluate(network, held).mean())
        print(f"  epoch {epoch}: {now:.4f} bits a token, best {best:.4f}", flush=True)
        since = 0 if now < best else since + 1
        if now < best:
            best, kept = now, copy.deepcopy(network.state_dict())
        elif since == 2:
            break
    network.load_state_dict(kept)

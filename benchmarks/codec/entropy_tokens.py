"""Tokens of crops, encoded once and kept, on which `benchmarks.codec.entropy` fits and judges its models.

Kept are groups and tokens by model, encoder and archive, in `.npz` files; a picture is encoded only where its file is
missing. Training crops are also encoded mirrored: a mirrored face is as likely as the face.
"""

from pathlib import Path

import numpy as np

from edge_stscq.cli.ui import progress_bar
from edge_stscq.codec.model import Codec
from edge_stscq.data.crops import read_crops
from edge_stscq.stream import Codes


def tokens(codec: Codec, source: Path, cache: Path, *, mirrored: bool = False) -> Codes:
    """Codes of all crops of an archive, and with `mirrored` of their mirror images behind them."""
    encoder = codec.name.replace(" ", "-")
    path = cache / f"{codec.frames.model_id.hex()}-{encoder}-{source.stem}{'-mirrored' * mirrored}.npz"
    if not path.exists():
        images = read_crops(source).images
        if mirrored:
            images = np.concatenate([images, images[:, :, ::-1]])
        with progress_bar(source.stem, len(images)) as progress:
            codes = codec.encode(images, progress=progress)
        cache.mkdir(parents=True, exist_ok=True)
        np.savez(path, group=codes.group, tokens=codes.tokens)
    with np.load(path) as kept:
        return Codes(kept["group"], kept["tokens"], len(codec.config.layers))

"""A picture of how far the decoder is."""

from pathlib import Path

import cv2
import numpy as np
import torch
from torch.nn import functional

from edge_stscq.codec.config import CROP
from edge_stscq.codec.decoder import Decoder
from edge_stscq.codec.encoder import EdgeEncoder
from edge_stscq.training.data import FaceSet

_FACES = 8
_GREY = np.uint8(128)


@torch.no_grad()
def contact_sheet(
    path: Path, encoder: EdgeEncoder, decoder: Decoder, faces: FaceSet, device: torch.device, size: int = CROP
) -> None:
    """Write eight faces: a row of originals, and below it the pictures of `size` pixels after each layer.

    All are grey where the original is no picture, as they are judged.
    """
    count = min(_FACES, len(faces))
    crops = np.stack([faces.crop(i) for i in range(count)])
    masks = np.stack([faces.crop_mask(i) for i in range(count)])[..., None] > 0
    analysis = encoder.analyse(torch.from_numpy(crops).to(device))
    rows = [crops]
    words = encoder.codebooks.lookup(analysis.group, analysis.tokens)
    for layers in range(1, 1 + len(decoder.config.layers)):
        painted = decoder(words, torch.full((count,), layers, device=device), size)
        painted = functional.interpolate(painted, size=CROP, mode="bilinear", align_corners=False)
        rows.append((painted * 128 + 128).round().clamp(0, 255).byte().permute(0, 2, 3, 1).cpu().numpy())
    sheet = np.concatenate([np.concatenate(list(np.where(masks, row, _GREY)), axis=1) for row in rows])
    cv2.imwrite(str(path), cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR))

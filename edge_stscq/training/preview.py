"""Sample pictures of how far a training is."""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from edge_stscq._files import write_file
from edge_stscq._images import encode_image, mosaic
from edge_stscq.codec.decoder import Decoder
from edge_stscq.codec.encoder import EdgeEncoder
from edge_stscq.config.codec import CROP
from edge_stscq.data.loader import FaceSet

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
        decoded = decoder(words, torch.full((count,), layers, device=device), size)
        decoded = functional.interpolate(decoded, size=CROP, mode="bilinear", align_corners=False)
        rows.append((decoded * 128 + 128).round().clamp(0, 255).byte().permute(0, 2, 3, 1).cpu().numpy())
    write_file(path, encode_image(mosaic([np.where(masks, row, _GREY).astype(np.uint8) for row in rows])))


def similarity_picture(path: Path, student: Tensor, teacher: Tensor) -> None:
    """Write the similarities of unit embeddings [N, D]: the student's above the diagonal, the teacher's below it."""
    student, teacher = student.detach().cpu(), teacher.detach().cpu()
    both = torch.triu(student @ student.t()) + torch.tril(teacher @ teacher.t(), -1)
    write_enlarged(path, ((both + 1) * 127.5).clamp(0, 255).byte().numpy(), 6, 6)


def write_enlarged(path: Path, picture: NDArray[np.uint8], across: int, down: int) -> None:
    """Write a grey picture [H, W], each pixel as so many across and down."""
    large = picture.repeat(down, axis=0).repeat(across, axis=1)
    write_file(path, encode_image(np.stack([large] * 3, axis=-1)))

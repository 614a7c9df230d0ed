"""Linear codec in closed form: where training starts.

Eigenfaces of aligned faces are hard to beat at few bytes and cost no gradient step. The principal components of small
pictures are dealt out to the spatial tokens, the transform from thumbnail and pooled regions to token vectors is the
ridge regression on them, and the decoder's sketch is the ridge regression from codewords back to pictures. Training
improves all three.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional

from edge_stscq._reporter import Reporter
from edge_stscq.codec.decoder import SKETCH, Decoder
from edge_stscq.codec.encoder import EdgeEncoder
from edge_stscq.codec.identity import allocate
from edge_stscq.codec.pooling import face_density
from edge_stscq.config.codec import CodecConfig
from edge_stscq.data.loader import FaceSet
from edge_stscq.training.init.closed_form import principal_components
from edge_stscq.training.init.latents import iterate_crops
from edge_stscq.training.init.ridge import ridge_regression

_SETTLE = 640
"""Crops that give the norms of a fresh network their statistics."""


def pca_targets(pictures: Tensor, config: CodecConfig) -> Tensor:
    """Principal components of pictures [n, 3, S, S] dealt out to the spatial tokens: [n, T_sp, D].

    Half of the weight of a pixel is even, half follows the landmarks. Components go strongest first, layer by layer,
    and fill at most half of the dimensions of a token; all are scaled alike, to mean square 1.
    """
    density, per_token = face_density(pictures.shape[-1]), math.ceil(config.dim / 2)
    importance = (0.5 + 0.5 * density / density.mean()).repeat(pictures.shape[1], 1, 1).flatten()
    x = pictures.flatten(1)
    mean, basis, deviations = principal_components(x, config.spatial_tokens * per_token, None, importance)
    values = deviations.square()
    slots: list[int] = []
    source: list[int] = []
    position = component = 0
    for layer in config.layers:
        if not layer.spatial:
            continue
        end = min(component + layer.spatial * per_token, len(values))
        for bucket in allocate(values[component:end].tolist(), layer.spatial, per_token):
            slots += [position * config.dim + slot for slot in range(len(bucket))]
            source += [component + index for index in bucket]
            position += 1
        component = end
    z = torch.zeros(len(x), config.spatial_tokens * config.dim)
    z[:, slots] = (x - mean) @ basis[:, source] / values[source].mean().sqrt()
    return z.unflatten(1, (config.spatial_tokens, config.dim))


@torch.no_grad()
def collect_features(
    encoder: EdgeEncoder, faces: FaceSet, count: int, reporter: Reporter, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Pooled features [n, R * C] and small pictures [n, 3, 32, 32] of `count` crops through a fresh spatial network."""
    encoder.to(device)
    encoder.backbone.spatial.train()
    for _, _, image in iterate_crops(faces, _SETTLE, reporter, "norms", device):
        encoder.backbone.spatial(image)
    encoder.eval()
    pooled, pictures = [], []
    for _, _, image in iterate_crops(faces, count, reporter, "regression", device):
        pooled.append(encoder.head.pooled(encoder.backbone.spatial(image)).cpu())
        pictures.append(functional.interpolate(image, size=SKETCH, mode="area").cpu())
    return torch.cat(pooled), torch.cat(pictures)


@torch.no_grad()
def fit_transform(encoder: EdgeEncoder, pooled: Tensor, pictures: Tensor, targets: Tensor) -> None:
    """Set the head's transform so that pictures give token vectors.

    What is linear in the thumbnail is taken from there, the rest from the regions.

    Args:
        pooled: features [n, R * C].
        pictures: the same crops, [n, 3, 32, 32].
        targets: token vectors [n, T_sp, D].
    """
    head, rest = encoder.head, targets.flatten(1)
    head.offset.zero_()
    if head.pixels is not None:
        thumbnail = functional.interpolate(pictures, size=encoder.config.thumbnail, mode="area").flatten(1)
        weight, offset = ridge_regression(thumbnail, rest, 1e-6)
        head.pixels.copy_(weight)
        head.offset.copy_(offset)
        rest = rest - (thumbnail @ weight + offset)
    weight, offset = ridge_regression(pooled, rest)
    head.transform.copy_(weight)
    head.offset.add_(offset)


@torch.no_grad()
def fit_sketch(decoder: Decoder, codewords: Tensor, pictures: Tensor) -> None:
    """Set the decoder's sketches so that codewords [n, T, D] of every prefix give pictures [n, 3, 32, 32]."""
    for line, end in zip(decoder.sketches, decoder.config.layer_ends, strict=True):
        weight, offset = ridge_regression(codewords[:, :end].flatten(1), pictures.flatten(1))
        line.load_state_dict({"weight": weight.t(), "bias": offset})

"""Identity tokens: a recogniser's embedding in token-specific codebooks.

The unit embedding, scaled to mean square 1, is projected on the principal components of a training set; each layer
takes its share of the components (strongest first) and deals them out to its identity tokens so that every token
carries a similar variance ("eigenvalue allocation", Ge et al. 2013, optimised product quantization). The projection is
orthonormal, so that an embedding is read back from any prefix of layers by its transpose, and two streams are compared
without decoding a picture. Compared is how two faces differ from the mean of faces as cameras see them: what all of
them share says nothing about who they are.
"""

import math

import torch
from torch import Tensor, nn

from edge_stscq.config.codec import EMBEDDING, CodecConfig

SCALE = math.sqrt(EMBEDDING)


def allocate(variances: list[float], tokens: int, per_token: int) -> list[list[int]]:
    """Deal components, strongest first, to `tokens` buckets of at most `per_token`: the lightest bucket is next."""
    buckets: list[list[int]] = [[] for _ in range(tokens)]
    loads = [0.0] * tokens
    floor = min(variances, default=0.0)
    for index, variance in enumerate(variances):
        open_buckets = [b for b in range(tokens) if len(buckets[b]) < per_token]
        bucket = min(open_buckets, key=lambda b: (loads[b], b))
        buckets[bucket].append(index)
        loads[bucket] += math.log(max(variance, 1e-12)) - math.log(max(floor, 1e-12)) + 1e-3
    return buckets


class IdentityHead(nn.Module):
    """Raw embedding [N, 128] -> identity token vectors [N, T_id, D], and back."""

    mean: Tensor
    projection: Tensor
    centre: Tensor

    def __init__(self, config: CodecConfig) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("mean", torch.zeros(EMBEDDING))
        self.register_buffer("centre", torch.zeros(EMBEDDING))
        self.register_buffer("projection", torch.zeros(EMBEDDING, config.identity_tokens * config.dim))
        self.fit(torch.eye(EMBEDDING), torch.eye(EMBEDDING))

    @torch.no_grad()
    def fit(self, embeddings: Tensor, typical: Tensor) -> None:
        """Set mean and projection from embeddings [N, 128] of a training set, the centre from typical ones [n, 128]."""
        x = normalize(embeddings.double()).cpu()
        self.mean.copy_(x.mean(0))
        self.centre.copy_(normalize(typical.double()).mean(0))
        values, vectors = torch.linalg.eigh((x - x.mean(0)).t() @ (x - x.mean(0)) / len(x))
        values, vectors = values.flip(0), vectors.flip(1)
        vectors = vectors * vectors.abs().amax(0).eq(vectors.amax(0)).double().mul(2).sub(1)  # a sign convention
        self.projection.zero_()
        component = column = 0
        for layer in self.config.layers:
            if not layer.identity:
                continue
            end = component + layer.identity_dims
            per_token = math.ceil(layer.identity_dims / layer.identity)
            for bucket in allocate(values[component:end].tolist(), layer.identity, per_token):
                for slot, index in enumerate(bucket):
                    self.projection[:, column + slot] = vectors[:, component + index].float()
                column += self.config.dim
            component = end

    def forward(self, embedding: Tensor) -> Tensor:
        x = normalize(embedding.float()) - self.mean
        return torch.matmul(x, self.projection).view(len(x), self.config.identity_tokens, self.config.dim)

    @property
    def scale(self) -> float:
        """Factor of token vectors beside an orthonormal projection."""
        return float(self.projection.square().sum().div(EMBEDDING).sqrt())

    def embedding(self, identity: Tensor) -> Tensor:
        """Embeddings [N, 128] of mean square 1, read back from all identity token vectors [N, T_id, D]."""
        return self.mean + torch.matmul(identity.flatten(1), self.projection.t()) / self.scale**2

    def deviation(self, identity: Tensor) -> Tensor:
        """Unit vectors [N, 128] from the centre to the embeddings in the codewords of a prefix of layers [N, t, D]."""
        flat = identity.flatten(1)
        projection = self.projection[:, : flat.shape[1]]
        offset = torch.matmul(self.centre - self.mean, projection)
        return nn.functional.normalize(torch.matmul(flat - offset, projection.t()))


def normalize(embedding: Tensor) -> Tensor:
    """Scale embeddings [N, 128] to mean square 1."""
    return embedding * SCALE / embedding.square().sum(-1, keepdim=True).clamp_min(1e-12).sqrt()

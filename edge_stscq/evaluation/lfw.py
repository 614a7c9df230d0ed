"""Is it still the same person? Verification on LFW of what survives at each layer.

Three ways to compare two faces are measured on the same pairs: the compressed domain (cosine of the identity
embeddings read from the tokens, no picture decoded), the decoded pictures seen by each recogniser, and the original
pictures seen by each recogniser, which is the ceiling. Beside them stand the bytes of each layer, PSNR, MS-SSIM and
perceptual distance to the original, and IDS: the cosine of a recogniser's embeddings of the decoded face and of its
original.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from edge_stscq.evaluation.faces import Faces
from edge_stscq.evaluation.metrics import cosine, ms_ssim, pooled_psnr, squared_error
from edge_stscq.evaluation.perceptual import Perceptual
from edge_stscq.evaluation.recognisers import Recogniser, embed_cached
from edge_stscq.evaluation.subject import Codes, Progress, Subject, batches, quiet
from edge_stscq.evaluation.verification import Pairs, Verification, verify


class LayerResult(BaseModel):
    """What a stream cut after one layer is worth."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    tokens: int = Field(description="tokens sent so far")
    payload_bytes: float = Field(description="mean over faces, without the frame's overhead")
    entropy_coded: bool = Field(description="false: bytes of a fixed-length code, as there were no frequency tables")
    psnr: float | None = Field(description="of the mean squared error to the originals, dB; null if there is none")
    ms_ssim: float = Field(description="mean multi-scale structural similarity to the originals")
    perceptual: float = Field(description="mean distance of deep features to the originals' (evaluation/perceptual.py)")
    identity: dict[str, float] = Field(description="IDS by recogniser: mean cosine to the original")
    compressed: Verification | None = Field(description="cosine of identity tokens; null in a layer without any so far")
    decoded: dict[str, Verification] = Field(description="decoded against decoded pictures, by recogniser")


class Judgement(BaseModel):
    """Verification of one codec."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    subject: str
    model: str
    protocol: str
    faces: int
    originals: dict[str, Verification] = Field(description="the ceiling, by recogniser")
    layers: tuple[LayerResult, ...]


def judge(
    subject: Subject,
    faces: Faces,
    pairs: Pairs,
    recognisers: Mapping[str, Recogniser],
    progress: Progress = quiet,
    layers: Sequence[int] | None = None,
    cache: Path | None = None,
) -> Judgement:
    """Code, decode and recognise every face once, then score the pairs.

    Args:
        faces: crops of at least every name in `pairs`.
        recognisers: by name; none is fine, then only the compressed domain is verified.
        progress: told of every batch of faces done.
        layers: how many layers to decode, in ascending order; None is every number there is.
        cache: folder that keeps the recognisers' embeddings of originals.
    """
    if layers is None:
        layers = range(1, 1 + len(subject.config.layers))
    codes: list[Codes] = []
    errors: dict[int, list[NDArray[np.float64]]] = {layer: [] for layer in layers}
    likeness: dict[int, list[NDArray[np.float64]]] = {layer: [] for layer in layers}
    looks: dict[int, list[NDArray[np.float64]]] = {layer: [] for layer in layers}
    look = Perceptual()
    seen: dict[tuple[str, int], list[NDArray[np.float32]]] = defaultdict(list)  # 0: the original
    for name, net in recognisers.items():
        seen[name, 0].append(embed_cached(net, faces.images, cache) if cache else net.embed(faces.images))
    for part in batches(len(faces)):
        images = faces.images[part]
        codes.append(subject.encode(images))
        original = look.features(images)
        for layer in layers:
            decoded = subject.decode(codes[-1], layer)
            errors[layer].append(squared_error(images, decoded))
            likeness[layer].append(ms_ssim(images, decoded))
            looks[layer].append(look.distance(original, look.features(decoded)))
            for name, net in recognisers.items():
                seen[name, layer].append(net.embed(decoded))
        progress(len(images))
    units = {key: np.concatenate(parts) for key, parts in seen.items()}
    whole = Codes(np.concatenate([c.group for c in codes]), np.concatenate([c.tokens for c in codes]))
    at = {name: i for i, name in enumerate(faces.names)}
    first, second = (np.array([at[name] for name in names]) for names in (pairs.first, pairs.second))

    def verified(embeddings: NDArray[np.float32]) -> Verification:
        return verify(cosine(embeddings[first], embeddings[second]), pairs)

    def result(layer: int) -> LayerResult:
        known = sum(part.identity for part in subject.config.layers[:layer])
        return LayerResult(
            name=subject.config.layer_names[layer - 1],
            tokens=subject.config.layer_ends[layer - 1],
            payload_bytes=float(subject.payload_bytes(whole, layer).mean()),
            entropy_coded=subject.tables is not None,
            psnr=pooled_psnr(np.concatenate(errors[layer])),
            ms_ssim=float(np.concatenate(likeness[layer]).mean()),
            perceptual=float(np.concatenate(looks[layer]).mean()),
            identity={name: float(cosine(units[name, 0], units[name, layer]).mean()) for name in recognisers},
            compressed=verified(subject.identity(whole, layer)) if known else None,
            decoded={name: verified(units[name, layer]) for name in recognisers},
        )

    return Judgement(
        subject=subject.name,
        model=subject.config.name,
        protocol=f"LFW view 2, {len(pairs)} pairs in {pairs.folds} folds, threshold chosen on the other folds",
        faces=len(faces),
        originals={name: verified(units[name, 0]) for name in recognisers},
        layers=tuple(result(layer) for layer in layers),
    )

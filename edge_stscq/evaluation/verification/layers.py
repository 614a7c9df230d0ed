"""Verification on LFW of the faces that each layer keeps.

Three ways to compare two faces are measured on the same pairs: the compressed domain (cosine of the identity
embeddings read from the tokens, no picture decoded), the decoded pictures seen by each recogniser, and the original
pictures seen by each recogniser, which is the ceiling. Beside them stand the bytes of each layer, PSNR and MS-SSIM to
the original, IDS (the cosine of a recogniser's embeddings of the decoded face and of its original) and, if asked for,
how faces look to people (`appearance.py`).
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from edge_stscq._progress import Progress, no_progress
from edge_stscq.codec.model import Codec, batches
from edge_stscq.data.crops import Faces
from edge_stscq.evaluation.appearance.masked import Mask
from edge_stscq.evaluation.appearance.meter import Appearance, AppearanceMeter
from edge_stscq.evaluation.metrics import cosine, ms_ssim, pooled_psnr, squared_error
from edge_stscq.evaluation.verification.pairs import Pairs, Verification, verify
from edge_stscq.recognizers import Recognizer, embed_cached
from edge_stscq.stream import Codes


class LayerResult(BaseModel):
    """Result of a stream cut after one layer."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    tokens: int = Field(description="tokens sent so far")
    payload_bytes: float = Field(description="mean over faces, without the frame's overhead")
    entropy_coded: bool = Field(description="false: bytes of a fixed-length code, as there were no frequency tables")
    psnr: float | None = Field(description="of the mean squared error to the originals, dB; null if there is none")
    ms_ssim: float = Field(description="mean multi-scale structural similarity to the originals")
    identity: dict[str, float] = Field(description="IDS by recogniser: mean cosine to the original")
    compressed: Verification | None = Field(description="cosine of identity tokens; null in a layer without any so far")
    decoded: dict[str, Verification] = Field(description="decoded against decoded pictures, by recogniser")
    appearance: Appearance | None = Field(default=None, description="to people; null if not asked for")


class VerificationReport(BaseModel):
    """Verification of one codec."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    subject: str
    model: str
    protocol: str
    faces: int
    originals: dict[str, Verification] = Field(description="the ceiling, by recogniser")
    frechet_between_halves: float | None = Field(
        default=None, description="of the originals, with half as many faces a side: photographs of other people"
    )
    layers: tuple[LayerResult, ...]


def evaluate_layers(
    codec: Codec,
    faces: Faces,
    pairs: Pairs,
    recognizers: Mapping[str, Recognizer],
    progress: Progress = no_progress,
    layers: Sequence[int] | None = None,
    cache: Path | None = None,
    appearance: bool = False,
    masks: Mask | None = None,
) -> VerificationReport:
    """Code, decode and recognise every face once, then score the pairs.

    Args:
        faces: crops of at least every name in `pairs`.
        recognizers: by name; none is fine, then only the compressed domain is verified.
        progress: told of every batch of faces done.
        layers: how many layers to decode, in ascending order; None is every number there is.
        cache: folder that keeps the recognisers' embeddings of originals.
        appearance: tell how decoded faces look, too.
        masks: what of the crops is picture, bool or float [N,128,128]; otherwise all of it. Recognisers see what was
            decoded, all of it.

    Raises:
        MissingExtraError: a package that `appearance` needs is not installed.
    """
    if layers is None:
        layers = range(1, 1 + len(codec.config.layers))
    codes: list[Codes] = []
    errors: dict[int, list[NDArray[np.float64]]] = {layer: [] for layer in layers}
    ms_ssims: dict[int, list[NDArray[np.float64]]] = {layer: [] for layer in layers}
    meter = AppearanceMeter(len(faces)) if appearance else None
    seen: dict[tuple[str, int], list[NDArray[np.float32]]] = defaultdict(list)  # 0: the original
    for name, net in recognizers.items():
        seen[name, 0].append(embed_cached(net, faces.images, cache) if cache else net.embed(faces.images))
    for part in batches(len(faces)):
        images = faces.images[part]
        codes.append(codec.encode(images))
        mask = None if masks is None else masks[part]
        decoded = {layer: codec.decode(codes[-1], layer) for layer in layers}
        for layer, picture in decoded.items():
            errors[layer].append(squared_error(images, picture, mask))
            ms_ssims[layer].append(ms_ssim(images, picture, mask))
            for name, net in recognizers.items():
                seen[name, layer].append(net.embed(picture))
        if meter is not None:
            meter.add(images, decoded, mask)
        progress(len(images))
    units = {key: np.concatenate(parts) for key, parts in seen.items()}
    whole = Codes.concatenate(codes)
    at = {name: i for i, name in enumerate(faces.names)}
    first, second = (np.array([at[name] for name in names]) for names in (pairs.first, pairs.second))

    def verified(embeddings: NDArray[np.float32]) -> Verification:
        return verify(cosine(embeddings[first], embeddings[second]), pairs)

    def result(layer: int) -> LayerResult:
        known = sum(part.identity for part in codec.config.layers[:layer])
        return LayerResult(
            name=codec.config.layer_names[layer - 1],
            tokens=codec.config.layer_ends[layer - 1],
            payload_bytes=float(codec.payload_bytes(whole, layer).mean()),
            entropy_coded=codec.tables is not None,
            psnr=pooled_psnr(np.concatenate(errors[layer])),
            ms_ssim=float(np.concatenate(ms_ssims[layer]).mean()),
            identity={name: float(cosine(units[name, 0], units[name, layer]).mean()) for name in recognizers},
            compressed=verified(codec.embed(whole, layer)) if known else None,
            decoded={name: verified(units[name, layer]) for name in recognizers},
            appearance=None if meter is None else meter.result(layer),
        )

    return VerificationReport(
        subject=codec.name,
        model=codec.config.name,
        protocol=f"LFW view 2, {len(pairs)} pairs in {pairs.folds} folds, threshold chosen on the other folds",
        faces=len(faces),
        originals={name: verified(units[name, 0]) for name in recognizers},
        frechet_between_halves=None if meter is None else meter.between_halves(),
        layers=tuple(result(layer) for layer in layers),
    )

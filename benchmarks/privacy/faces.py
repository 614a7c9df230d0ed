"""Tokens and embeddings of crops, coded once: the attacks read them many times."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from edge_stscq._progress import Progress, no_progress
from edge_stscq.codec.model import Codec, batches
from edge_stscq.data.crops import Faces, load_faces
from edge_stscq.stream import Codes


class CodedFaces(NamedTuple):
    """Faces of one archive: names, codes and unit embeddings float32 `[N, 128]` from all layers."""

    names: tuple[str, ...]
    codes: Codes
    embeddings: NDArray[np.float32]

    def at(self, names: tuple[str, ...]) -> NDArray[np.float32]:
        """Embeddings of these names, in their order."""
        place = {name: index for index, name in enumerate(self.names)}
        return self.embeddings[[place[name] for name in names]]


def coded_faces(codec: Codec, source: Path, cache: Path, progress: Progress = no_progress) -> CodedFaces:
    """Code all crops of an archive, or read what was coded before.

    Args:
        cache: folder that keeps tokens by model, encoder, archive and its size.
    """
    name = f"{codec.frames.model_id.hex()}-{codec.name.replace(' ', '-')}-{source.stem}-{source.stat().st_size}"
    kept = cache / f"{name}.npz"
    if not kept.exists():
        faces = load_faces(source)
        codes = Codes.concatenate([_encoded(codec, faces, part, progress) for part in batches(len(faces))])
        cache.mkdir(parents=True, exist_ok=True)
        unnamed = kept.with_suffix(".part.npz")
        np.savez(unnamed, group=codes.group, tokens=codes.tokens, names=np.array(faces.names))
        unnamed.replace(kept)
    with np.load(kept) as arrays:
        codes = Codes(arrays["group"], arrays["tokens"], len(codec.config.layers))
        found = tuple(str(name) for name in arrays["names"])
    return CodedFaces(found, codes, codec.embed(codes))


def _encoded(codec: Codec, faces: Faces, part: slice, progress: Progress) -> Codes:
    codes = codec.encode(faces.images[part])
    progress(len(codes.group))
    return codes

"""Faces that are like an example, compared one by one: for commands, which keep no index."""

from collections.abc import Iterable, Iterator

from edge_stscq.errors import FrameError
from edge_stscq.server.decoding.catalog import CatalogEntry
from edge_stscq.server.storage.face_store import StoredFace
from edge_stscq.stream.face import CodedFace


def find_similar(
    faces: Iterable[StoredFace], entry: CatalogEntry, example: CodedFace, layers: int, min_cosine: float
) -> Iterator[tuple[StoredFace, float]]:
    """Faces of the example's model that are at least so much alike by their first layers, each with its cosine.

    Faces with fewer layers are compared by the basic layer; damaged ones are passed over.
    """
    embed = entry.matcher.embed
    wanted = {count: embed([example], count)[0] for count in {1, layers}}
    for stored in faces:
        if stored.model != entry.model_id:
            continue
        try:
            face = entry.codec.face(stored.frame())
        except FrameError:
            continue
        count = layers if face.layers >= layers else 1
        cosine = float(embed([face], count)[0] @ wanted[count])
        if cosine >= min_cosine:
            yield stored, min(cosine, 1.0)

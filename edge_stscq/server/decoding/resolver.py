"""Resolver of decode requests: from the name of a stored face, or from an uploaded stream."""

from itertools import islice

from edge_stscq.errors import EdgeError
from edge_stscq.server.decoding.catalog import CatalogEntry, ModelCatalog
from edge_stscq.server.decoding.request import DecodeRequest
from edge_stscq.server.storage.face_store import FaceStore, StoredFace
from edge_stscq.stream.face import CodedFace
from edge_stscq.stream.frame import file_model_id


class NoFaceError(EdgeError):
    """There is no such face, or not yet with so many layers."""


class ProtectedFaceError(EdgeError):
    """A protected template, of which no picture is drawn and nothing is compared without its key."""


class RequestResolver:
    """Resolves requests for faces of the models in a catalog. Its methods may block; call them from a thread."""

    def __init__(self, catalog: ModelCatalog, store: FaceStore) -> None:
        self._catalog, self._store = catalog, store

    def find(self, face_id: str) -> StoredFace:
        """A stored face by its name.

        Raises:
            NoFaceError: it is unknown.
        """
        stored = self._store.find(face_id)
        if stored is None:
            raise NoFaceError(f"there is no face {face_id}; GET /v1/faces lists them")
        return stored

    def for_face(self, stored: StoredFace, layers: int | None) -> DecodeRequest:
        """Request for a stored face; `layers=None` is all it has.

        Raises:
            NoFaceError: it has fewer layers.
            ProtectedFaceError: it is a protected template.
            WrongModelError: the model it was stored under is not in the catalog.
            DamagedFaceError: its row was damaged in the store.
        """
        if stored.protected:
            raise ProtectedFaceError(
                f"face {stored.id} is a protected template: there is no picture of it; ask the matcher that has its key"
            )
        if layers is not None and layers > stored.layers:
            raise NoFaceError(f"face {stored.id} has {stored.layers} of the {layers} layers asked for")
        entry = self._catalog.find(stored.model, f"face {stored.id}")
        face = entry.codec.face(stored.frame())
        return _cut(entry, face, layers or face.layers)

    def for_stream(self, body: bytes, layers: int) -> DecodeRequest:
        """Request for the only face of the stream in `body`, which must have `layers` layers.

        Raises:
            FrameError: the stream is damaged.
            WrongModelError: its model is not in the catalog.
            EdgeError: it has another number of frames, or fewer layers.
        """
        entry = self._catalog.find(file_model_id(body), "this stream")
        faces = list(islice(entry.codec.read(body), 2))
        if len(faces) != 1:
            raise EdgeError("a search is for one face; send a stream with one frame")
        if faces[0].layers < layers:
            raise EdgeError(f"the face has {faces[0].layers} of the {layers} layers asked for")
        return _cut(entry, faces[0], layers)


def _cut(entry: CatalogEntry, face: CodedFace, layers: int) -> DecodeRequest:
    return DecodeRequest(entry.model_id, face.truncate(layers, entry.config.layer_ends))

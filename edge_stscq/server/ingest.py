"""Ingest: from a request's bytes to stored faces.

Nothing is stored unless every frame of the request is whole and of one model that is loaded.
"""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

from edge_stscq.errors import EdgeError, FrameError
from edge_stscq.protocol import MAX_SEQUENCE, Acknowledgement
from edge_stscq.server.decoding.catalog import CatalogEntry, ModelCatalog
from edge_stscq.server.storage.face_store import FaceStore, FrameBatch, ValidatedFrame, WriteResult
from edge_stscq.stream.frame import stream_model_id

REQUESTS_PER_COMMIT = 16
"""Requests whose frames are stored in one commit, at most."""


class TooManyFramesError(EdgeError):
    """One request has more frames than the server takes at once."""


class FrameUpload(NamedTuple):
    """One request: the stream in `body` as faces `<device>-<first>`, `<device>-<first + 1>`, ..."""

    device: str
    first: int
    body: bytes


class Ingest:
    """Checks frames against their models and keeps them in one store. `accept` blocks; call it from a thread."""

    def __init__(self, catalog: ModelCatalog, store: FaceStore, max_frames: int) -> None:
        self._catalog, self._store, self._max_frames = catalog, store, max_frames

    def accept(self, uploads: Sequence[FrameUpload]) -> list[Acknowledgement | Exception]:
        """Store what is whole of what several requests bring, in one commit.

        Returns:
            For each a acknowledgement, or why nothing of it was stored: `FrameError` (the stream is empty or damaged),
            `WrongModelError` (its model is not loaded), `TooManyFramesError`, `ConflictError` (a number is taken by
            another face), or `EdgeError` (numbers beyond the last).
        """
        checked = [self._checked(upload) for upload in uploads]
        whole = [one for one in checked if isinstance(one, FrameBatch)]
        stored = iter(self._store.accept_all(whole) if whole else ())
        return [_acknowledge(one, next(stored)) if isinstance(one, FrameBatch) else one for one in checked]

    def _checked(self, upload: FrameUpload) -> FrameBatch | Exception:
        try:
            return self._check(upload)
        except Exception as error:
            return error

    def _check(self, upload: FrameUpload) -> FrameBatch:
        entry = self._catalog.find(stream_model_id(upload.body), "this stream")
        frames: list[ValidatedFrame] = []
        for frame in entry.codec.iter_frames(upload.body):
            if len(frames) == self._max_frames:
                raise TooManyFramesError(f"over {self._max_frames} frames in one request; send fewer at once")
            frames.append(ValidatedFrame(frame.data, frame.face.layers))
        if not frames:
            raise FrameError("the stream has a header and no frame; nothing to store")
        if upload.first + len(frames) - 1 > MAX_SEQUENCE:
            raise EdgeError(f"sequence numbers end at {MAX_SEQUENCE}; use another device name")
        return FrameBatch(upload.device, upload.first, entry.model_id, frames, partial(_same_face, entry))


def _acknowledge(batch: FrameBatch, outcomes: list[WriteResult] | Exception) -> Acknowledgement | Exception:
    if isinstance(outcomes, Exception):
        return outcomes
    counts = {outcome: outcomes.count(outcome) for outcome in ("stored", "extended", "duplicate")}
    return Acknowledgement(device=batch.device, first=batch.first, count=len(outcomes), **counts)


def _same_face(entry: CatalogEntry, old: bytes, new: bytes) -> bool:
    """True if two frames of a model carry the same group and the same tokens in the layers they share."""
    if old == new:
        return True
    first, second = (entry.codec.decode_frame(frame)[0] for frame in (old, new))
    layers, ends = min(first.layers, second.layers), entry.config.layer_ends
    return first.truncate(layers, ends) == second.truncate(layers, ends)

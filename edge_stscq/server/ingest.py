"""From a request's bytes to stored faces, and from a stored face to an order for its decoder.

Nothing is stored unless every frame of the request is whole and of one model that is loaded.
"""

from collections.abc import Sequence
from functools import partial
from itertools import islice
from typing import NamedTuple

from edge_stscq.errors import EdgeError, FrameError
from edge_stscq.server.api.schemas import Receipt
from edge_stscq.server.decoding.catalog import Models, Order
from edge_stscq.server.decoding.face_decoder import FaceDecoder, Job
from edge_stscq.server.storage.face_store import MAX_SEQUENCE, FaceStore, FrameBatch, ValidatedFrame, WriteResult
from edge_stscq.stream.frame import stream_model_id


class TooManyFramesError(EdgeError):
    """One request has more frames than the server takes at once."""


class NoFaceError(EdgeError):
    """There is no such face, or not yet with so many layers."""


class FrameUpload(NamedTuple):
    """One request: the stream in `body` as faces `<device>-<first>`, `<device>-<first + 1>`, ..."""

    device: str
    first: int
    body: bytes


class Ingest:
    """Checks frames against their models and keeps them in one store. Its methods block; call them from a thread."""

    def __init__(self, models: Models, store: FaceStore, max_frames: int) -> None:
        self._models, self._store, self._max_frames = models, store, max_frames

    def accept(self, posts: Sequence[FrameUpload]) -> list[Receipt | Exception]:
        """Store what is whole of what several requests bring, in one commit.

        Returns:
            For each a receipt, or why nothing of it was stored: `FrameError` (the stream is empty or damaged),
            `WrongModelError` (its model is not loaded), `TooManyFramesError`, `ConflictError` (a number is taken by
            another face), or `EdgeError` (numbers beyond the last).
        """
        checked = [self._checked(post) for post in posts]
        whole = [one for one in checked if isinstance(one, FrameBatch)]
        stored = iter(self._store.accept_all(whole) if whole else ())
        return [_answer(one, next(stored)) if isinstance(one, FrameBatch) else one for one in checked]

    def _checked(self, post: FrameUpload) -> FrameBatch | Exception:
        try:
            return self._check(post)
        except Exception as error:
            return error

    def _check(self, post: FrameUpload) -> FrameBatch:
        service = self._models.find(stream_model_id(post.body), "this stream")
        frames: list[ValidatedFrame] = []
        for face, frame in service.codec.iter_frames(post.body):
            if len(frames) == self._max_frames:
                raise TooManyFramesError(f"over {self._max_frames} frames in one request; send fewer at once")
            frames.append(ValidatedFrame(frame, face.layers))
        if not frames:
            raise FrameError("the stream has a header and no frame; nothing to store")
        if post.first + len(frames) - 1 > MAX_SEQUENCE:
            raise EdgeError(f"sequence numbers end at {MAX_SEQUENCE}; use another device name")
        return FrameBatch(post.device, post.first, service.model_id, frames, partial(_same_face, service))

    def example(self, body: bytes, layers: int) -> Order:
        """The only face of the stream in `body`, which must have `layers` layers.

        Raises:
            FrameError: the stream is damaged.
            WrongModelError: its model is not loaded.
            EdgeError: it has another number of frames, or fewer layers.
        """
        service = self._models.find(stream_model_id(body), "this stream")
        faces = list(islice(service.codec.iter_stream(body), 2))
        if len(faces) != 1:
            raise EdgeError("a search is for one face; send a stream with one frame")
        if faces[0].layers < layers:
            raise EdgeError(f"the face has {faces[0].layers} of the {layers} layers asked for")
        return Order(service, Job(faces[0], layers))

    def order(self, face_id: str, layers: int | None) -> Order:
        """What to decode for a stored face; `layers=None` is all it has.

        Raises:
            NoFaceError: it is unknown, or has fewer layers.
            WrongModelError: the model it was stored under is not loaded.
            FrameError: its frame was damaged in the store.
        """
        stored = self._store.find(face_id)
        if stored is None:
            raise NoFaceError(f"there is no face {face_id}; GET /v1/faces lists them")
        if layers is not None and layers > stored.layers:
            raise NoFaceError(f"face {face_id} has {stored.layers} of the {layers} layers asked for")
        service = self._models.find(stored.model, f"face {face_id}")
        face, _ = service.codec.decode_frame(stored.frame)
        return Order(service, Job(face, layers or face.layers))


def _answer(delivery: FrameBatch, outcomes: list[WriteResult] | Exception) -> Receipt | Exception:
    if isinstance(outcomes, Exception):
        return outcomes
    counts = {outcome: outcomes.count(outcome) for outcome in ("stored", "extended", "duplicate")}
    return Receipt(device=delivery.device, first=delivery.first, count=len(outcomes), **counts)


def _same_face(service: FaceDecoder, old: bytes, new: bytes) -> bool:
    """Whether two frames of a model carry the same group and the same tokens in the layers they share."""
    if old == new:
        return True
    first, second = (service.codec.decode_frame(frame)[0] for frame in (old, new))
    layers, ends = min(first.layers, second.layers), service.config.layer_ends
    return first.truncate(layers, ends) == second.truncate(layers, ends)

"""From a request's bytes to stored faces, and from a stored face to a job for the decoder.

Nothing is stored unless every frame of the request is whole and of this model.
"""

from itertools import islice

from edge_stscq.errors import EdgeError, FrameError
from edge_stscq.server.decode_service import DecodeService, Job
from edge_stscq.server.schemas import Receipt
from edge_stscq.server.store import MAX_SEQUENCE, FaceStore, NewFrame
from edge_stscq.stream.face import CodedFace
from edge_stscq.stream.frame import stream_model_id


class WrongModelError(EdgeError):
    """Frames of a model that this server does not hold."""


class TooManyFramesError(EdgeError):
    """One request has more frames than the server takes at once."""


class NoFaceError(EdgeError):
    """There is no such face, or not yet with so many layers."""


class Ingest:
    """Checks frames against one model and keeps them in one store. Its methods block; call them from a thread."""

    def __init__(self, service: DecodeService, store: FaceStore, max_frames: int) -> None:
        self._service, self._codec, self._store, self._max_frames = service, service.codec, store, max_frames

    def accept(self, device: str, first: int, body: bytes) -> Receipt:
        """Store the stream in `body` as faces `<device>-<first>`, `<device>-<first + 1>`, ...

        Raises:
            FrameError: the stream is empty or damaged.
            WrongModelError: it is of another model.
            TooManyFramesError: it has too many frames.
            ConflictError: a number is taken by another face.
        """
        self._check_model(stream_model_id(body), "this stream")
        frames: list[NewFrame] = []
        for face in self._codec.iter_stream(body):
            if len(frames) == self._max_frames:
                raise TooManyFramesError(f"over {self._max_frames} frames in one request; send fewer at once")
            frames.append(NewFrame(self._codec.encode_frame(face), face.layers))
        if not frames:
            raise FrameError("the stream has a header and no frame; nothing to store")
        if first + len(frames) - 1 > MAX_SEQUENCE:
            raise EdgeError(f"sequence numbers end at {MAX_SEQUENCE}; use another device name")
        outcomes = self._store.accept(device, first, self._service.model_id, frames, self._same_face)
        counts = {outcome: outcomes.count(outcome) for outcome in ("stored", "extended", "duplicate")}
        return Receipt(device=device, first=first, count=len(frames), **counts)

    def one_face(self, body: bytes, layers: int) -> CodedFace:
        """The only face of the stream in `body`, which must have `layers` layers.

        Raises:
            FrameError: the stream is damaged.
            WrongModelError: it is of another model.
            EdgeError: it has another number of frames, or fewer layers.
        """
        self._check_model(stream_model_id(body), "this stream")
        faces = list(islice(self._codec.iter_stream(body), 2))
        if len(faces) != 1:
            raise EdgeError("a search is for one face; send a stream with one frame")
        if faces[0].layers < layers:
            raise EdgeError(f"the face has {faces[0].layers} of the {layers} layers asked for")
        return faces[0]

    def job(self, face_id: str, layers: int | None) -> Job:
        """What to paint for a stored face; `layers=None` is all it has.

        Raises:
            NoFaceError: it is unknown, or has fewer layers.
            WrongModelError: it was stored under another model.
            FrameError: its frame was damaged in the store.
        """
        stored = self._store.find(face_id)
        if stored is None:
            raise NoFaceError(f"there is no face {face_id}; GET /v1/faces lists them")
        if layers is not None and layers > stored.layers:
            raise NoFaceError(f"face {face_id} has {stored.layers} of the {layers} layers asked for")
        self._check_model(stored.model, f"face {face_id}")
        face, _ = self._codec.decode_frame(stored.frame)
        return Job(face, layers or face.layers)

    def _check_model(self, model: bytes, what: str) -> None:
        if model != self._service.model_id:
            raise WrongModelError(
                f"{what} is of model {model.hex()} and this server holds {self._service.model_id.hex()}; "
                "use the model it was encoded with"
            )

    def _same_face(self, old: bytes, new: bytes) -> bool:
        """Whether two frames carry the same group and the same tokens in the layers they share."""
        if old == new:
            return True
        first, second = (self._codec.decode_frame(frame)[0] for frame in (old, new))
        layers = min(first.layers, second.layers)
        return self._cut(first, layers) == self._cut(second, layers)

    def _cut(self, face: CodedFace, layers: int) -> CodedFace:
        return face.truncate(layers, self._service.config.layer_ends)

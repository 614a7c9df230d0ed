"""Ingest: from a request's bytes to stored faces.

Nothing of a request is stored unless all of it is whole. A whole frame that cannot be kept - of a model that is not
loaded, of a newer device, or under the name of another face - is refused alone; a request of version 1 is refused with
it, since its answer has no place to say so.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from edge_stscq.errors import EdgeError, FrameError
from edge_stscq.protocol import (
    MAX_SEQUENCE,
    STREAMS_PATH,
    Acknowledgement,
    Refused,
    RefusedFrame,
    StreamAcknowledgement,
)
from edge_stscq.server.decoding.catalog import CatalogEntry, ModelCatalog
from edge_stscq.server.storage.face_store import FaceStore, FrameBatch, WriteResult
from edge_stscq.stream.envelope import STATIC_TABLES, Kind, Source, WireFrame, device_stream_id
from edge_stscq.stream.frame import CRC_BYTES, stream_model_id
from edge_stscq.stream.protected import read_protected
from edge_stscq.stream.wire import check_version, read_frames

REQUESTS_PER_COMMIT = 16
"""Requests whose frames are stored in one commit, at most."""


class TooManyFramesError(EdgeError):
    """One request has more frames than the server takes at once."""


class ConflictError(EdgeError):
    """Another face is stored under a name."""


class FrameUpload(NamedTuple):
    """One request of version 1: the stream in `body` as faces `<device>-<first>`, `<device>-<first + 1>`, ..."""

    device: str
    first: int
    body: bytes


class StreamUpload(NamedTuple):
    """One request of version 2: the file in `body`, whose frames must all be of `device`."""

    device: str
    body: bytes


Upload = FrameUpload | StreamUpload
Answer = Acknowledgement | StreamAcknowledgement


class Ingest:
    """Checks frames against their models and keeps them in one store. `accept` blocks; call it from a thread.

    Args:
        let_pass: true for each of several whole frames that nobody wants kept, e.g. by a watch list.
    """

    def __init__(
        self, catalog: ModelCatalog, store: FaceStore, max_frames: int,
        let_pass: Callable[[Sequence[WireFrame]], Sequence[bool]] | None = None,
    ) -> None:  # fmt: skip
        self._catalog, self._store, self._max_frames, self._let_pass = catalog, store, max_frames, let_pass
        self._entries = {entry.model_id: entry for entry in catalog}

    def accept(self, uploads: Sequence[Upload]) -> list[Answer | Exception]:
        """Store what is whole of what several requests bring, in one commit.

        Returns:
            For each an acknowledgement, or why nothing of it was stored: `FrameError` (the file is empty or damaged),
            `TooManyFramesError`, or `EdgeError` (numbers beyond the last, another device); of version 1 also
            `WrongModelError` and `ConflictError` (a number is taken by another face).
        """
        read = [self._read(upload) for upload in uploads]
        self._refuse_non_canonical([one for one in read if isinstance(one, _Read) and not one.batch.whole])
        whole = [one.batch for one in read if isinstance(one, _Read)]
        if self._let_pass is not None:
            for batch in whole:
                passing = self._let_pass(batch.frames)
                batch.frames[:] = [frame for frame, passes in zip(batch.frames, passing, strict=True) if not passes]
        stored = iter(self._store.accept_all(whole) if whole else ())
        return [
            _acknowledge(upload, one, next(stored)) if isinstance(one, _Read) else one
            for upload, one in zip(uploads, read, strict=True)
        ]

    def _read(self, upload: Upload) -> "_Read | Exception":
        try:
            return self._read_1(upload) if isinstance(upload, FrameUpload) else self._read_2(upload)
        except Exception as error:
            return error

    def _read_1(self, upload: FrameUpload) -> "_Read":
        if check_version(upload.body) != 1:
            raise FrameError(f"this is a file of version 2; it belongs to {STREAMS_PATH}")
        entry = self._catalog.find(stream_model_id(upload.body), "this stream")
        source = Source(device_stream_id(upload.device), upload.device, entry.model_id)
        frames: list[WireFrame] = []
        for frame in entry.codec.iter_frames(upload.body):
            self._check_count(len(frames))
            number = upload.first + len(frames)
            if number > MAX_SEQUENCE:
                raise EdgeError(f"sequence numbers end at {MAX_SEQUENCE}; use another device name")
            payload = frame.data[len(frame.data) - CRC_BYTES - frame.payload_bytes : -CRC_BYTES]
            frames.append(WireFrame(source, number, frame.face.layers, payload))
        if not frames:
            raise FrameError("the stream has a header and no frame; nothing to store")
        return _Read(FrameBatch(frames, self._same_face, whole=True), len(frames), [])

    def _read_2(self, upload: StreamUpload) -> "_Read":
        frames: list[WireFrame] = []
        refused: list[RefusedFrame] = []
        count = 0
        for section, frame in read_frames(upload.body):
            self._check_count(count)
            count += 1
            if frame.source.device != upload.device:
                raise FrameError(f"the file names devices {upload.device} and {frame.source.device}; send one at once")
            unknown = section.unknown_extension if section.unknown_extension is not None else frame.unknown_extension
            reason = self._refusal(frame, unknown)
            if reason is None:
                frames.append(frame)
            else:
                refused.append(_refused(frame, *reason))
        if not count:
            raise FrameError("the file has no frame; nothing to store")
        return _Read(FrameBatch(frames, self._same_face), count, refused)

    def _refuse_non_canonical(self, requests: Sequence["_Read"]) -> None:
        """Refuse the frames whose payloads are no face's; those of all requests are read at once."""
        of_model: dict[bytes, list[tuple[_Read, WireFrame]]] = {}
        for one in requests:
            for frame in one.batch.frames:
                if frame.source.kind == Kind.TOKENS:
                    of_model.setdefault(frame.source.model_id, []).append((one, frame))
        for model, owned in of_model.items():
            faces = self._entries[model].codec.faces([frame for _, frame in owned])
            for (one, frame), face in zip(owned, faces, strict=True):
                if isinstance(face, FrameError):
                    one.batch.frames.remove(frame)
                    one.refused.append(_refused(frame, Refused.NOT_CANONICAL, str(face)))

    def _check_count(self, count: int) -> None:
        if count >= self._max_frames:
            raise TooManyFramesError(f"over {self._max_frames} frames in one request; send fewer at once")

    def _refusal(self, frame: WireFrame, extension: int | None) -> tuple[Refused, str] | None:
        """Why a whole frame is not kept, None if it is."""
        source = frame.source
        if extension is not None:
            return Refused.UNKNOWN_EXTENSION, f"extension {extension} is unknown; update the server"
        if source.kind not in (Kind.TOKENS, Kind.PROTECTED):
            return Refused.UNKNOWN_KIND, f"frames of kind {source.kind} are not kept here; update the server"
        if source.model_id not in self._entries:
            return Refused.UNKNOWN_MODEL, f"model {source.model_id.hex()} is not held here; start the server with it"
        coders = {STATIC_TABLES} if source.kind == Kind.PROTECTED else self._entries[source.model_id].codec.coders
        if source.coder_id not in coders:
            return Refused.UNKNOWN_CODER, f"coder {source.coder_id.hex()} is not held here; update the server"
        if source.kind == Kind.PROTECTED:
            try:
                read_protected(frame)
            except FrameError as error:
                return Refused.NOT_CANONICAL, str(error)
        return None

    def _same_face(self, old: WireFrame, new: WireFrame) -> bool:
        """True if two frames carry the same group and the same tokens in the layers they share, or one template."""
        entry: CatalogEntry = self._entries[new.source.model_id]
        if (old.layers, old.payload) == (new.layers, new.payload):
            return True
        if new.source.kind == Kind.PROTECTED:
            return False
        first, second = (entry.codec.face(frame) for frame in (old, new))
        layers, ends = min(first.layers, second.layers), entry.config.layer_ends
        return first.truncate(layers, ends) == second.truncate(layers, ends)


def _refused(frame: WireFrame, code: Refused, reason: str) -> RefusedFrame:
    return RefusedFrame(stream=frame.source.stream_id.hex(), number=frame.number, code=code, reason=reason)


class _Read(NamedTuple):
    """A request that was read: frames to keep, the number of all, and those that are refused."""

    batch: FrameBatch
    total: int
    refused: list[RefusedFrame]


def _acknowledge(
    upload: Upload, read: _Read, results: list[WriteResult | RefusedFrame] | Exception
) -> Answer | Exception:
    if isinstance(results, Exception):
        return results
    conflicts = [result for result in results if isinstance(result, RefusedFrame)]
    counts = {name: results.count(name) for name in ("stored", "extended", "duplicate")}
    counts["duplicate"] += read.total - len(read.refused) - len(results)  # nothing of them was to be stored
    if isinstance(upload, StreamUpload):
        refused = [*read.refused, *conflicts]
        return StreamAcknowledgement(device=upload.device, count=read.total, **counts, refused=refused)
    if conflicts:
        return ConflictError(f"{conflicts[0].reason}; number the faces of this camera anew, or update it")
    return Acknowledgement(device=upload.device, first=upload.first, count=read.total, **counts)

"""Server of frames of both versions, on its own store, in this process and without decoding a picture."""

import json
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace

import httpx2

from edge_stscq.client.sender import Sender
from edge_stscq.errors import EdgeError
from edge_stscq.protocol import DEVICE_HEADER, FRAMES_PATH, SEQUENCE_HEADER, STREAMS_PATH, RefusedFrame
from edge_stscq.server.decoding.catalog import CatalogEntry, ModelCatalog
from edge_stscq.server.errors import STATUS
from edge_stscq.server.ingest import FrameUpload, Ingest, StreamUpload, Upload
from edge_stscq.server.storage.face_store import FrameBatch, WriteResult
from edge_stscq.server.storage.sql_face_store import SqlFaceStore
from edge_stscq.stream import FrameCodec
from edge_stscq.stream.envelope import CapturedFace, WireFrame
from edge_stscq.stream.wire import PREAMBLE, read_frames, read_section

Name = tuple[str, int]
"""Stream id in hexadecimal and number."""


class Models(ModelCatalog):
    """Models that are nothing but codecs."""

    def __init__(self, codecs: Iterable[FrameCodec]) -> None:
        self._entries = {
            codec.model_id: CatalogEntry(
                SimpleNamespace(name="made-up", layer_ends=codec.entropy.layer_ends),  # type: ignore[arg-type]
                codec,
                None,  # type: ignore[arg-type]
            )
            for codec in codecs
        }


class Store(SqlFaceStore):
    """A store that notes what became of each frame."""

    def __init__(self, place: Path) -> None:
        super().__init__(place)
        self.results: Counter[tuple[Name, str]] = Counter()

    def accept_all(self, batches: Sequence[FrameBatch]) -> list[list[WriteResult | RefusedFrame] | Exception]:
        answers = super().accept_all(batches)
        for batch, answer in zip(batches, answers, strict=True):
            if not isinstance(answer, Exception):
                for frame, result in zip(batch.frames, answer, strict=True):
                    told = result if isinstance(result, str) else str(result.code)
                    self.results[(frame.source.stream_id.hex(), frame.number), told] += 1
        return answers


class Arrival:
    """A request that came.

    Attributes:
        frames: of version 2, none if the file is damaged.
        size: bytes, HTTP header and body.
    """

    def __init__(self, at: float, request: httpx2.Request) -> None:
        lines = [f"{request.method} {request.url.path} HTTP/1.1", *map(": ".join, request.headers.items()), ""]
        self.at, self.path, self.body, self.headers = at, request.url.path, request.content, request.headers
        self.size = sum(len(line) + 2 for line in lines) + len(request.content)
        self.frames: list[WireFrame] = []
        if self.path == STREAMS_PATH:
            self.frames = [frame for _, frame in read_frames(request.content)]

    @property
    def span(self) -> tuple[int, list[int]]:
        """First number and layers of the frames of version 2."""
        return self.frames[0].number, [frame.layers for frame in self.frames]


class FaceServer:
    """A server that holds the models of `codecs`.

    Args:
        max_frames: most of one request.
        old: knows version 1 only.

    Attributes:
        arrivals: all requests so far.
        script: what to answer first: a status other than 200, a response or an exception.
    """

    def __init__(
        self, store: Store, *codecs: FrameCodec, max_frames: int = 1024, old: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self.store, self.old, self.clock, self._max_frames = store, old, clock, max_frames
        self.arrivals: list[Arrival] = []
        self.script: list[int | httpx2.Response | Exception] = []
        self.learn(*codecs)

    def learn(self, *codecs: FrameCodec) -> None:
        """Hold these models from now on, and no others."""
        self._ingest = Ingest(Models(codecs), self.store, self._max_frames)

    def answer(self, path: str, headers: Mapping[str, str], body: bytes) -> tuple[int, str]:
        """Status and JSON."""
        if path != FRAMES_PATH and (self.old or path != STREAMS_PATH):
            return 404, json.dumps({"error": "Not Found"})
        upload: Upload
        try:
            if path == FRAMES_PATH:
                upload = FrameUpload(headers[DEVICE_HEADER], int(headers[SEQUENCE_HEADER]), body)
            else:
                upload = StreamUpload(read_section(body, len(PREAMBLE))[0].source.device, body)
            (done,) = self._ingest.accept([upload])
        except EdgeError as error:
            done = error
        if isinstance(done, EdgeError):
            return STATUS.get(type(done), 400), json.dumps({"error": str(done)})
        if isinstance(done, Exception):
            raise done
        return 200, done.model_dump_json()

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        self.arrivals.append(Arrival(self.clock(), request))
        if self.script and (told := self.script.pop(0)) != 200:
            if isinstance(told, Exception):
                raise told
            return told if isinstance(told, httpx2.Response) else httpx2.Response(told, json={"error": "as told"})
        status, content = self.answer(request.url.path, request.headers, request.content)
        return httpx2.Response(status, text=content)

    def sender(self, pauses: list[float] | None = None, **changes: object) -> Sender:
        """A sender of device `cam` to this server."""
        settings = {"transport": httpx2.MockTransport(self), "sleep": ([] if pauses is None else pauses).append}
        return Sender("http://edge.test", "cam", **settings | changes)  # type: ignore[arg-type]

    def holds(self, stream: bytes, faces: Mapping[int, CapturedFace], layers: int = 3) -> bool:
        """True if of this stream exactly these faces are stored, each whole, as it was captured, with `layers`."""
        rows = [row for row in self.store.page(0, 10**6) if row.stream == stream]
        stored = {row.sequence: row.frame() for row in rows}
        made = {
            number: next(one for one in face.frames(stream, "cam", number) if one.layers == layers)
            for number, face in faces.items()
        }
        return stored == made and len(rows) == len(stored)

    def results(self, stream: bytes) -> dict[int, Counter[str]]:
        """Counts of results by face of a stream."""
        found: dict[int, Counter[str]] = {}
        for ((name, number), result), count in self.store.results.items():
            if name == stream.hex():
                found.setdefault(number, Counter())[result] += count
        return found

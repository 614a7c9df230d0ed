"""The process that codes pictures, seen from the server: asked one picture at a time, ended when it hangs."""

import multiprocessing
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from edge_stscq._limits import MAX_LAYERS
from edge_stscq.bundle.bundle import open_bundle
from edge_stscq.config.codec import CodecConfig
from edge_stscq.errors import EdgeError
from edge_stscq.server.decoding.backend import BusyError
from edge_stscq.server.decoding.confinement import User
from edge_stscq.server.pictures.child import run
from edge_stscq.stream.face import CodedFace

START_SECONDS = 120.0
"""For loading the encoder on a busy machine."""
HUNG_SECONDS = 20.0
"""A picture that takes longer is not waited for: the process is ended, and another begun for the next one."""
MAX_ANSWER_BYTES = 1 << 20
_END_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class EncodedPicture:
    """Largest face of an uploaded picture.

    Attributes:
        model_id: of the bundle that coded it.
        face: all its layers; None where none was found, or the gate refused it.
        reason: why there is none, in one line; None where there is one.
        quality: 0 to 100, as of a captured face.
        box: of the face, x, y, width and height in pixels of the upright picture; None where none was found.
        faces: found in the picture.
    """

    model_id: bytes
    face: CodedFace | None
    reason: str | None
    quality: int
    box: tuple[float, float, float, float] | None
    faces: int


class _Answer(BaseModel):
    """Answer of the process; it is not trusted."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    confinement: str | None = Field(default=None, max_length=1000)
    error: str | None = Field(default=None, max_length=10_000)
    reason: str | None = Field(default=None, max_length=10_000)
    faces: int = Field(default=0, ge=0)
    box: tuple[float, float, float, float] | None = None
    quality: int = Field(default=0, ge=0, le=100)
    group: int | None = Field(default=None, ge=0)
    tokens: tuple[int, ...] = ()
    layers: int | None = Field(default=None, ge=1, le=MAX_LAYERS)

    def face(self, config: CodecConfig) -> CodedFace | None:
        """The coded face, if there is one.

        Raises:
            ValueError: it is none of this model.
        """
        if self.group is None or self.layers is None:
            return None
        whole = self.layers <= len(config.layers) and len(self.tokens) == config.layer_ends[self.layers - 1]
        if not whole or self.group >= config.groups or not all(0 <= one < config.entries for one in self.tokens):
            raise ValueError("no face of this model")
        return CodedFace(self.group, np.array(self.tokens, np.uint16), self.layers)


class EncoderProcess:
    """Begin a process that codes pictures with a bundle. One thread at a time may call its methods.

    Args:
        bundle: folder of one whose runtime is installed here.
        user: whose rights it has, where the server has those of root; None for the server's own.

    Raises:
        EdgeError: the bundle is damaged, or `user` is not one whose rights it can have.

    Attributes:
        model_id: of the bundle.
        confinement: what the process has given up, in words; known once it has answered.
    """

    _process: multiprocessing.process.BaseProcess
    _pipe: Connection

    def __init__(self, bundle: Path, user: str | None = None) -> None:
        opened = open_bundle(bundle)
        self.model_id, self._config = opened.frames.model_id, opened.config
        self._arguments = opened.folder.resolve(), User.named(user) if user else None
        self.confinement = "not started"
        self._start()

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, child_end = context.Pipe()
        self._process = context.Process(target=run, args=(child_end, *self._arguments), name="pictures", daemon=True)
        self._process.start()
        child_end.close()
        self._ready = False

    def wait_until_ready(self) -> None:
        """Wait until the encoder is loaded.

        Raises:
            EdgeError: it cannot be; the message says why.
        """
        try:
            answer = self._answer(START_SECONDS)
        except (BusyError, RuntimeError) as error:
            raise EdgeError(f"the encoder of pictures cannot start: {error}") from None
        if answer.confinement is None:
            raise EdgeError(f"the encoder of pictures cannot start: {answer.error}")
        self.confinement, self._ready = answer.confinement, True

    def encode(self, data: bytes) -> EncodedPicture:
        """Code the largest face of a picture file.

        Raises:
            RuntimeError: the process failed or died of it.
            BusyError: it hung, and was ended.
        """
        if not self._process.is_alive():
            self.close()
            self._start()
        if not self._ready:
            self.wait_until_ready()
        try:
            self._pipe.send_bytes(data)
        except OSError:
            raise RuntimeError(self._died()) from None
        answer = self._answer(HUNG_SECONDS)
        if answer.error is not None:
            raise RuntimeError(answer.error)
        try:
            face = answer.face(self._config)
        except ValueError as error:
            raise RuntimeError(self._distrust(str(error))) from None
        reason = answer.reason or (None if face is not None else "no face found")
        face = None if answer.reason else face
        return EncodedPicture(self.model_id, face, reason, answer.quality, answer.box, answer.faces)

    def _answer(self, seconds: float) -> _Answer:
        try:
            if not self._pipe.poll(seconds):
                raise BusyError(self._distrust(f"its process did nothing for {seconds:g} seconds"))
            return _Answer.model_validate_json(self._pipe.recv_bytes(MAX_ANSWER_BYTES))
        except (EOFError, OSError):
            raise RuntimeError(self._died()) from None
        except ValidationError:
            raise RuntimeError(self._distrust("its answer is none")) from None

    def _distrust(self, why: str) -> str:
        """End the process; why it had to."""
        self._process.kill()
        self._process.join(_END_SECONDS)
        return f"{why}, and it was ended"

    def _died(self) -> str:
        self._process.join(_END_SECONDS)
        return f"the process that codes pictures ended with {self._process.exitcode}"

    def close(self) -> None:
        """End the process, whatever it does."""
        self._process.kill()
        self._process.join()
        self._pipe.close()

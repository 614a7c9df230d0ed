"""A model folder turned into a decoder: frames in, faces out.

Frames are read by integer tables on the CPU; only the painting runs on the device, in bfloat16 where that is CUDA. The
same service stands behind `edge-stscq decode` and behind the server's routes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edge_stscq.codec.config import CROP, CodecConfig
from edge_stscq.errors import EdgeError, require
from edge_stscq.stream.face import CodedFace
from edge_stscq.stream.frame import FrameCodec
from edge_stscq.stream.tables import model_id


@dataclass(frozen=True, slots=True)
class Job:
    """One face to paint from its first `layers` layers."""

    face: CodedFace
    layers: int


class DecodeService:
    """Decoder, frequency tables and model id of the model in `folder`.

    Attributes:
        config: shape of the codec.
        codec: reads and writes frames of this model.
        model_id: the 8 bytes that every stream of this model begins with.
        device: "cpu" or "cuda".
        precision: "float32" or "bfloat16".

    Raises:
        EdgeError: the folder is incomplete or damaged, or `device` is not there.
    """

    def __init__(self, folder: Path, device: str = "cpu") -> None:
        self._torch = require("torch", "server")
        from edge_stscq.codec import store

        if device not in ("cpu", "cuda"):
            raise EdgeError(f"unknown device {device!r}; use cpu or cuda")
        if device == "cuda" and not self._torch.cuda.is_available():
            raise EdgeError("no CUDA device is visible to torch; use --device cpu")
        self.device, self.precision = device, precision_of(device)
        self.config: CodecConfig = store.load_config(folder)
        tables = store.load_tables(folder)
        self.model_id = model_id(store.full_books(folder), tables)
        self.codec = FrameCodec(tables, self.model_id)
        self._decoder = store.load_decoder(folder).to(device)

    def paint(self, jobs: Sequence[Job]) -> np.ndarray:
        """Decode faces, in one pass of the network for each layer count.

        Returns:
            RGB uint8 [len(jobs), 128, 128, 3], in the order of `jobs`.

        Raises:
            ValueError: a job asks for more layers than its face has.
        """
        torch = self._torch
        pictures = np.empty((len(jobs), CROP, CROP, 3), np.uint8)
        for layers in sorted({job.layers for job in jobs}):
            rows = [row for row, job in enumerate(jobs) if job.layers == layers]
            faces = [jobs[row].face for row in rows]
            if any(face.layers < layers for face in faces):
                raise ValueError(f"a face of fewer than {layers} layers cannot be painted from {layers}")
            end = self.config.layer_ends[layers - 1]
            group = torch.tensor([face.group for face in faces], device=self.device)
            tokens = np.stack([face.tokens[:end] for face in faces]).astype(np.int64)
            with torch.inference_mode(), torch.autocast(self.device, torch.bfloat16, enabled=self.device == "cuda"):
                painted = self._decoder.decode(group, torch.from_numpy(tokens).to(self.device), layers)
            pictures[rows] = painted.cpu().numpy()
        return pictures

    def paint_png(self, jobs: Sequence[Job]) -> list[bytes]:
        """Decode faces to PNG files' bytes, in the order of `jobs`."""
        return [to_png(picture) for picture in self.paint(jobs)]

    def warm_up(self) -> None:
        """Paint one face, so that the first user does not wait for lazy initialisation."""
        self.paint([Job(CodedFace(0, np.zeros(self.config.layer_ends[0], np.uint16), 1), 1)])


def precision_of(device: str) -> str:
    """What a decoder on `device` computes in."""
    return "bfloat16" if device == "cuda" else "float32"


def to_png(picture: np.ndarray) -> bytes:
    """PNG bytes of an RGB uint8 picture [H, W, 3]."""
    import cv2

    done, data = cv2.imencode(".png", picture[:, :, ::-1])
    if not done:
        raise RuntimeError("the picture could not be written as PNG")
    return data.tobytes()

"""A model folder turned into a decoder: frames in, faces out.

Frames are read by integer tables on the CPU; only the painting runs on the device, in the way that its `Policy` says.
The same service stands behind `edge-stscq decode` and behind the server's routes.

A face is painted alike whoever is in its batch, but for rounding: the order of sums may differ with the size of the
batch, which moves single values by one step of 255 in float32 and by a few in bfloat16.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edge_stscq.config.codec import CROP, CodecConfig
from edge_stscq.errors import EdgeError, require
from edge_stscq.server.policy import POLICIES, Policy
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

    Args:
        device: "cpu" or "cuda".
        policy: how to run there; the device's own if None.

    Attributes:
        folder: of the model.
        config: shape of the codec.
        codec: reads and writes frames of this model.
        model_id: the 8 bytes that every stream of this model begins with.

    Raises:
        EdgeError: the folder is incomplete or damaged, or `device` is not there.
    """

    def __init__(self, folder: Path, device: str = "cpu", policy: Policy | None = None) -> None:
        torch = self._torch = require("torch", "server")
        from edge_stscq.codec import store

        if device not in POLICIES:
            raise EdgeError(f"unknown device {device!r}; use cpu or cuda")
        if device == "cuda" and not torch.cuda.is_available():
            raise EdgeError("no CUDA device is visible to torch; use --device cpu")
        self.folder, self.device, self.policy = folder, device, policy or POLICIES[device]
        self.config: CodecConfig = store.load_config(folder)
        tables = store.load_tables(folder)
        self.model_id = model_id(store.full_books(folder), tables)
        self.codec = FrameCodec(tables, self.model_id)
        decoder = store.load_decoder(folder).to(device)
        decoder.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._paint = decoder.paint
        if self.policy.compiler is not None:
            self._paint = torch.compile(
                decoder.paint, fullgraph=True, dynamic=False, backend=self.policy.compiler,
                recompile_limit=len(self.policy.shapes), isolate_recompiles=True,
            )  # fmt: skip

    def paint(self, jobs: Sequence[Job]) -> np.ndarray:
        """Decode faces, of any layer counts, in batches of at most `policy.max_batch`.

        Returns:
            RGB uint8 [len(jobs), 128, 128, 3], in the order of `jobs`.

        Raises:
            ValueError: a job asks for more layers than its face has.
        """
        size = self.policy.max_batch
        parts = [self._paint_batch(jobs[start : start + size]) for start in range(0, len(jobs), size)]
        return np.concatenate(parts) if parts else np.empty((0, CROP, CROP, 3), np.uint8)

    def _paint_batch(self, jobs: Sequence[Job]) -> np.ndarray:
        torch, policy = self._torch, self.policy
        size = policy.padded(len(jobs))
        group, received = np.zeros(size, np.int64), np.ones(size, np.int64)
        tokens = np.zeros((size, self.config.tokens), np.int64)
        for row, job in enumerate(jobs):
            if not 1 <= job.layers <= job.face.layers:
                raise ValueError(f"a face of {job.face.layers} layers cannot be painted from {job.layers}")
            end = self.config.layer_ends[job.layers - 1]
            group[row], received[row], tokens[row, :end] = job.face.group, job.layers, job.face.tokens[:end]
        inputs = [torch.from_numpy(values).to(self.device) for values in (group, tokens, received)]
        lower = policy.precision != "float32"
        with torch.inference_mode(), torch.autocast(self.device, getattr(torch, policy.precision), enabled=lower):
            painted = self._paint(*inputs)
        return painted[: len(jobs)].cpu().numpy()

    def paint_png(self, jobs: Sequence[Job]) -> list[bytes]:
        """Decode faces to PNG files' bytes, in the order of `jobs`."""
        return [to_png(picture) for picture in self.paint(jobs)]

    def warm_up(self) -> None:
        """Run every shape of the policy, so that no user waits for a compiler or for lazy initialisation."""
        job = Job(CodedFace(0, np.zeros(self.config.layer_ends[0], np.uint16), 1), 1)
        for size in self.policy.shapes:
            self.paint([job] * size)


def to_png(picture: np.ndarray) -> bytes:
    """PNG bytes of an RGB uint8 picture [H, W, 3]."""
    import cv2

    done, data = cv2.imencode(".png", picture[:, :, ::-1])
    if not done:
        raise RuntimeError("the picture could not be written as PNG")
    return data.tobytes()

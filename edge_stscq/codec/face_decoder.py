"""Face decoder of a model: coded faces in, pictures out, on the CPU or on CUDA.

The same decoder stands behind `Codec.decode` and behind the server's routes.

A face is decoded alike whoever is in its batch, but for rounding: the order of sums may differ with the size of the
batch, which moves single values by one step of 255 in float32 and by a few in bfloat16.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from edge_stscq.codec import store
from edge_stscq.codec.decoder import Decoder
from edge_stscq.codec.execution_profile import PROFILES, ExecutionProfile
from edge_stscq.config.codec import CROP, CodecConfig
from edge_stscq.errors import EdgeError
from edge_stscq.stream.face import CodedFace


class FaceDecoder:
    """Decoder network of a model, run as a profile says.

    Args:
        model: folder of the model, or its network, in eval mode.
        device: "cpu" or "cuda".
        profile: how to run there; the device's own if None.

    Attributes:
        config: shape of the codec.

    Raises:
        EdgeError: the folder is incomplete or damaged, or `device` is not there.

    Example:
        >>> folder = Path("models/face64")
        >>> faces = list(load_frame_codec(folder).read(data))
        >>> pictures = FaceDecoder(folder).decode(faces)
    """

    def __init__(self, model: Path | Decoder, device: str = "cpu", profile: ExecutionProfile | None = None) -> None:
        if device not in PROFILES:
            raise EdgeError(f"unknown device {device!r}; use cpu or cuda")
        if device == "cuda" and not torch.cuda.is_available():
            raise EdgeError("no CUDA device is visible to torch; use --accelerator cpu")
        self.device, self.profile = device, profile or PROFILES[device]
        decoder = model if isinstance(model, Decoder) else store.load_decoder(model)
        self.config: CodecConfig = decoder.config
        decoder.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._network: Callable[..., torch.Tensor] = decoder.decode_batch
        if self.profile.compiler is not None:
            self._network = torch.compile(  # type: ignore[call-overload]
                self._network, fullgraph=True, dynamic=False, backend=self.profile.compiler,
                recompile_limit=len(self.profile.shapes), isolate_recompiles=True,
            )  # fmt: skip

    def decode(self, faces: Sequence[CodedFace]) -> NDArray[np.uint8]:
        """Decode each face from all the layers that it has, in batches of at most `profile.max_batch`.

        Returns:
            RGB uint8 [len(faces), 128, 128, 3], in the order of `faces`.
        """
        size = self.profile.max_batch
        parts = [self._decode_batch(faces[start : start + size]) for start in range(0, len(faces), size)]
        return np.concatenate(parts) if parts else np.empty((0, CROP, CROP, 3), np.uint8)

    def _decode_batch(self, faces: Sequence[CodedFace]) -> NDArray[np.uint8]:
        profile = self.profile
        size = profile.padded(len(faces))
        group, layers = np.zeros(size, np.int64), np.ones(size, np.int64)
        tokens = np.zeros((size, self.config.tokens), np.int64)
        for row, face in enumerate(faces):
            group[row], layers[row], tokens[row, : len(face.tokens)] = face.group, face.layers, face.tokens
        inputs = [torch.from_numpy(values).to(self.device) for values in (group, tokens, layers)]
        lower = profile.precision != "float32"
        with torch.inference_mode(), torch.autocast(self.device, getattr(torch, profile.precision), enabled=lower):
            decoded = self._network(*inputs)
        pictures: NDArray[np.uint8] = decoded[: len(faces)].cpu().numpy()
        return pictures

    def warm_up(self) -> None:
        """Run every shape of the profile, so that no user waits for a compiler or for lazy initialization."""
        face = CodedFace(0, np.zeros(self.config.layer_ends[0], np.uint16), 1)
        for size in self.profile.shapes:
            self.decode([face] * size)

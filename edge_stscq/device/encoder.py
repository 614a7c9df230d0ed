"""A picture in, a coded face out: the artefact of a bundle behind one method."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_stscq.bundle.bundle import Bundle, open_bundle
from edge_stscq.bundle.manifest import REEXPORT_HINT
from edge_stscq.bundle.selftest import selftest
from edge_stscq.config.codec import CROP
from edge_stscq.device.clock import now
from edge_stscq.device.runtimes import Runner, runtime_of
from edge_stscq.errors import BundleError, EdgeError
from edge_stscq.stream import CapturedFace, CodedFace

VERIFIED = 6
"""Golden pictures that are replayed when an artifact is loaded: 40 ms or so, where a face takes 6."""


class DeviceEncoder:
    """An artefact ready to run; `Bundle.load_encoder` makes it.

    Args:
        bundle: the open bundle, which says what the outputs must look like.
        runner: executes the artefact on one picture.
        runtime: what does so and in which version, for reports, e.g. "onnxruntime 1.31.1".
    """

    def __init__(self, bundle: Bundle, runner: Runner, runtime: str) -> None:
        self.bundle = bundle
        self.runtime = runtime
        self._runner = runner

    def run(self, image: NDArray[np.uint8]) -> tuple[int, NDArray[np.int32]]:
        """Group and all tokens int32 `[T]` of one crop, uint8 `[128, 128, 3]` RGB.

        Raises:
            EdgeError: `image` is not such a crop.
            BundleError: the artefact answered with something that is not a group and tokens of this model.
        """
        if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.shape != (CROP, CROP, 3):
            what = f"{image.dtype} {image.shape}" if isinstance(image, np.ndarray) else type(image).__name__
            raise EdgeError(f"a crop is uint8 ({CROP}, {CROP}, 3) in RGB, not {what}; align pictures with `capture`")
        group, tokens = (np.ravel(output) for output in self._runner(np.ascontiguousarray(image)[None]))
        config = self.bundle.config
        if (
            group.shape != (1,) or tokens.shape != (config.tokens,) or {group.dtype.kind, tokens.dtype.kind} - {*"iu"}
            or not 0 <= int(group[0]) < config.groups
            or not 0 <= int(tokens.min()) <= int(tokens.max()) < config.entries
        ):  # fmt: skip
            raise BundleError(
                f"{self.bundle.artefact} answered with no group and tokens of this model; {REEXPORT_HINT}"
            )
        return int(group[0]), tokens.astype(np.int32)

    def encode(self, image: NDArray[np.uint8], layers: int | None = None) -> CodedFace:
        """The coded face of one crop, all layers or the first ones; errors as in `run`.

        Raises:
            EdgeError: the model has fewer layers.
        """
        ends = self.bundle.config.layer_ends
        wanted = len(ends) if layers is None else self.bundle.config.check_layers(layers)
        group, tokens = self.run(image)
        return CodedFace(group, tokens[: ends[wanted - 1]].astype(np.uint16), wanted)

    def encode_frame(
        self, image: NDArray[np.uint8], layers: int | None = None, *, captured_ms: int | None = None,
        track: int | None = None, quality: int | None = None,
    ) -> CapturedFace:  # fmt: skip
        """One crop as a face to keep or send, with a frame of its basic layer before that of all; errors as `encode`.

        Args:
            captured_ms: milliseconds since 1970 UTC; now if None.
            track: number that the faces of one visit share.
            quality: 0 to 100.

        Example:
            >>> face = encoder.encode_frame(align(read_image("portrait.png")))
            >>> face.payload_bytes
            64
        """
        moment, clock = now()
        when = moment if captured_ms is None else captured_ms
        face = self.encode(image, layers)
        return self.bundle.frames.captured(face, when, clock, base=True, track=track, quality=quality)


def load_encoder(bundle: Bundle | Path | str, threads: int = 1, *, verify: bool = True) -> DeviceEncoder:
    """Load the artefact of a bundle, or of the bundle at a path, into its runtime.

    Args:
        threads: threads of one inference, 0 for the runtime's own choice.
        verify: replay some golden pictures and their payloads first, so that a device that computes wrong sends
            nothing. Where every device must give the same tokens (`Manifest.exact`) they must; elsewhere the other
            answer at a tie will do.

    Raises:
        MissingExtraError, BundleError, EdgeError: as `open_bundle`, `runtime_of` and `Runtime.open`, or this device
            gives other tokens or payloads than it must.
    """
    if not isinstance(bundle, Bundle):
        bundle = open_bundle(bundle)
    runtime = runtime_of(bundle)
    encoder = DeviceEncoder(bundle, runtime.open(bundle, threads), runtime.version(bundle))
    if verify:
        _verify(encoder)
    return encoder


def _verify(encoder: DeviceEncoder) -> None:
    bundle = encoder.bundle
    result = selftest(bundle, encoder, bundle.golden.spread(VERIFIED))
    if result.first is not None and result.first.tensor == "payloads":
        raise BundleError(
            f"{bundle.folder}: the entropy coder makes other bytes on this machine than at export; "
            f"nothing was encoded; see `edge-stscq selftest {bundle.folder}`"
        )
    if not result.passed or (bundle.manifest.exact and result.tokens_equal < result.tokens):
        raise BundleError(
            f"{bundle.artefact}: {encoder.runtime} gives other tokens on this machine than at export; "
            f"nothing was encoded; see `edge-stscq selftest {bundle.folder}`"
        )

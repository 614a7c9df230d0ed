"""A bundle's artifact as the encoder of a codec, also where its runtime does not run."""

from pathlib import Path

from edge_stscq.bundle import Bundle, open_bundle
from edge_stscq.codec.model import Codec
from targets.subprocess_check import load_encoder_or_reference


def coded_by(codec: Codec, bundle: Bundle | Path) -> Codec:
    """The codec with the artifact of one of its bundles, in its runtime or its reference executor, as the encoder.

    Raises:
        EdgeError: the bundle is damaged, of another model, or its runtime is missing.
    """
    opened = bundle if isinstance(bundle, Bundle) else open_bundle(bundle)
    codec.check_bundle(opened)
    return codec.with_encoder(load_encoder_or_reference(opened))

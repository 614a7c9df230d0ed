"""A model of four layers on a device: exported, tried, encoding, and named layer by layer."""

from pathlib import Path

import numpy as np
import pytest

from edge_stscq.device import load_encoder, open_bundle
from edge_stscq.device.selftest import _places, selftest
from edge_stscq.errors import EdgeError
from targets import TARGETS
from targets.bundle import load_source, write_bundle

ONNX = TARGETS[0]


def test_four_layers_are_exported_tried_and_encoded(four_layer_model: Path, tmp_path: Path) -> None:
    folder = write_bundle(load_source(four_layer_model, "fp32"), ONNX, tmp_path / "onnx").folder
    bundle = open_bundle(folder)
    layers = [(layer.name, layer.end) for layer in bundle.manifest.layers]
    assert layers == [("basic", 4), ("middle", 8), ("enhanced", 12), ("fine", 16)]
    encoder = load_encoder(bundle)
    assert selftest(bundle, encoder).passed
    assert _places(bundle.config)[-1] == "spatial, fine layer"
    whole = encoder.encode(bundle.golden.images[0])
    assert (whole.layers, len(whole.tokens)) == (4, 16)
    assert encoder.encode(bundle.golden.images[0], 2) == whole.truncate(2, bundle.config.layer_ends)
    assert bundle.frames.decode_frame(bundle.frames.encode_frame(whole))[0] == whole
    with pytest.raises(EdgeError, match=r"has 4 layers \(basic, middle, enhanced, fine\); choose 1 to 4"):
        encoder.encode(np.zeros((128, 128, 3), np.uint8), 5)

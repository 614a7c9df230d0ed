"""Running an artefact: crops in, coded faces out, and a clear word when the runtime is not the right one."""

import sys
from importlib import metadata

import numpy as np
import pytest

from edge_stscq.bundle import open_bundle
from edge_stscq.bundle.manifest import Manifest, RuntimeRange, TensorSpec
from edge_stscq.device import DeviceEncoder, load_encoder
from edge_stscq.device.runtimes.onnx import OnnxRuntime
from edge_stscq.errors import BundleError, EdgeError, MissingExtraError
from edge_stscq.stream.learned.frequencies import Predictor
from tests.support.bundles.altered_bundle import as_learned, change_golden, change_two_tokens
from tests.support.bundles.sums_bundle import CONFIG, answer, sums_onnx


def test_a_crop_becomes_a_face_and_a_frame(sums_bundle, crop):
    encoder = load_encoder(sums_bundle, threads=1)
    assert encoder.runtime == f"onnxruntime {metadata.version('onnxruntime')}"
    group, tokens = encoder.run(crop)
    assert (group, tokens.tolist()) == answer(crop)
    assert tokens.dtype == np.int32
    face = encoder.encode(crop)
    assert (face.group, face.tokens.tolist(), face.layers) == (*answer(crop), 3)
    frames = encoder.bundle.frames
    assert frames.decode_frame(frames.encode_frame(face))[0] == face


def test_fewer_layers_are_a_prefix(sums_bundle, crop):
    encoder = load_encoder(open_bundle(sums_bundle))
    for layers, end in enumerate(CONFIG.layer_ends, start=1):
        face = encoder.encode(crop, layers)
        assert (face.group, face.tokens.tolist(), face.layers) == (answer(crop)[0], answer(crop)[1][:end], layers)
    with pytest.raises(EdgeError, match="choose 1 to 3"):
        encoder.encode(crop, 4)


def test_a_view_of_a_picture_is_read_as_it_looks(sums_bundle, crop):
    encoder = load_encoder(sums_bundle)
    assert encoder.run(crop[::-1, :, ::-1])[1].tolist() == answer(crop[::-1].copy())[1]


@pytest.mark.parametrize(
    ("image", "what"),
    [
        (np.zeros((128, 128, 3), np.float32), r"float32 \(128, 128, 3\)"),
        (np.zeros((112, 112, 3), np.uint8), r"uint8 \(112, 112, 3\)"),
        (np.zeros((1, 128, 128, 3), np.uint8), r"uint8 \(1, 128, 128, 3\)"),
        (np.zeros((128, 128), np.uint8), r"uint8 \(128, 128\)"),
        ("face.png", "not str"),
    ],
)
def test_what_is_no_crop_is_refused(sums_bundle, image, what):
    with pytest.raises(EdgeError, match=what):
        load_encoder(sums_bundle).run(image)


def test_runtime_out_of_range_is_refused_with_a_command(make_sums_bundle):
    """A runtime outside the range is refused with the pip command."""
    old = RuntimeRange(package="onnxruntime", minimum="0.9", maximum_exclusive="1.2.3")
    version = metadata.version("onnxruntime")
    with pytest.raises(BundleError, match=rf"installed is {version}; run: pip install 'onnxruntime>=0.9,<1.2.3'"):
        load_encoder(make_sums_bundle(runtime=old))


@pytest.mark.parametrize(("target", "command"), [("onnx", "edge-stscq"), ("executorch", r"edge-stscq\[executorch\]")])
def test_a_missing_runtime_names_what_to_install(make_sums_bundle, target, command):
    absent = RuntimeRange(package="no-such-runtime", minimum="1", maximum_exclusive="2")
    with pytest.raises(MissingExtraError, match=rf"no-such-runtime is not installed; run: pip install '{command}'"):
        load_encoder(make_sums_bundle(runtime=absent, target=target))


@pytest.mark.skipif(sys.platform == "darwin", reason="Core ML runs here")
def test_core_ml_off_macos_points_to_what_works(make_sums_bundle):
    with pytest.raises(EdgeError, match=r"runs on macOS only.*selftest.*parity.*reference executor"):
        load_encoder(make_sums_bundle(target="coreml"))


def test_an_artifact_that_does_not_load_is_refused(make_sums_bundle):
    with pytest.raises(BundleError, match=r"encoder.onnx does not load"):
        load_encoder(make_sums_bundle(artefact=b"not a graph"))


def test_an_artifact_with_other_outputs_than_listed_is_refused(make_sums_bundle):
    wide = TensorSpec(name="tokens", shape=(1, 16), dtype="int64", description="")
    group = TensorSpec(name="group", shape=(1,), dtype="int32", description="")
    with pytest.raises(BundleError, match="inputs and outputs are not the manifest's"):
        load_encoder(make_sums_bundle(outputs=(group, wide)))


def test_tokens_that_the_model_does_not_have_are_refused(make_sums_bundle, crop):
    encoder = load_encoder(make_sums_bundle(artefact=sums_onnx(entries=50_000)), verify=False)
    with pytest.raises(BundleError, match="no group and tokens of this model"):
        encoder.run(crop)


def test_a_device_that_computes_wrong_is_refused_when_it_is_loaded(sums_bundle):
    """Also where answers at a tie may differ; one wrong token of the pictures replayed is enough."""
    bundle = open_bundle(change_golden(sums_bundle, change_two_tokens))
    assert not bundle.manifest.exact
    with pytest.raises(BundleError, match=r"onnxruntime .* gives other tokens on this machine than at export; nothing"):
        load_encoder(bundle)
    assert load_encoder(bundle, verify=False).encode(bundle.golden.images[0]).layers == 3


def test_a_device_that_codes_to_other_bytes_is_refused_when_it_is_loaded(sums_bundle, monkeypatch):
    """A processor whose sums were not those of whole numbers would code what no server reads."""
    bundle = open_bundle(as_learned(sums_bundle))
    encoder = load_encoder(bundle)
    face = encoder.encode(bundle.golden.images[0])
    assert bundle.frames.coder.decode(bundle.frames.payload(face), 3) == face
    right = Predictor.starts

    def wrong(predictor, layer, group, tokens):
        starts = right(predictor, layer, group, tokens)
        starts[..., 1] += 1 if layer == 2 else 0
        return starts

    monkeypatch.setattr(Predictor, "starts", wrong)
    with pytest.raises(BundleError, match=r"the entropy coder makes other bytes on this machine than at export; noth"):
        load_encoder(bundle)


def test_the_other_answer_at_a_tie_is_no_wrong_one(sums_bundle):
    def change(golden):
        golden["other_tokens"], golden["other_groups"] = golden["tokens"].copy(), golden["groups"].copy()
        golden["tokens"][0, 3] ^= 1

    load_encoder(change_golden(sums_bundle, change))


def test_an_exact_bundle_has_no_ties(make_sums_bundle, monkeypatch):
    def change(golden):
        golden["other_tokens"], golden["other_groups"] = golden["tokens"].copy(), golden["groups"].copy()
        golden["tokens"][0, 3] ^= 1

    bundle = open_bundle(change_golden(make_sums_bundle(), change))
    monkeypatch.setattr(Manifest, "exact", True)
    with pytest.raises(BundleError, match="other tokens"):
        load_encoder(bundle)


def test_an_encoder_runs_on_one_thread_unless_told(sums_bundle, monkeypatch):
    asked = []
    opened = OnnxRuntime.open
    monkeypatch.setattr(OnnxRuntime, "open", lambda self, *given: asked.append(given[1]) or opened(self, *given))
    load_encoder(sums_bundle)
    open_bundle(sums_bundle).load_encoder()
    load_encoder(sums_bundle, 2)
    assert asked == [1, 1, 2]


@pytest.mark.parametrize(
    "outputs", [(3, [0] * 16), (-1, [0] * 16), (0, [0] * 15), (0, [-1] * 16), (0, [0.0] * 16), ([0, 0], [0] * 16)]
)
def test_answers_out_of_range_are_refused(sums_bundle, crop, outputs):
    encoder = DeviceEncoder(open_bundle(sums_bundle), lambda _: outputs, "by hand")
    with pytest.raises(BundleError, match="no group and tokens of this model"):
        encoder.run(crop)

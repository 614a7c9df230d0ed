"""Every verb on models of random weights, as a user's program calls it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

import edge_stscq as es
from edge_stscq._progress import Progress
from edge_stscq.config.thresholds import Thresholds
from edge_stscq.data.crops import Faces
from quantization import Calibration
from targets import target_of
from targets.golden import candidates
from tests.support.installed import need_module
from tests.support.models.calibrated_model import Calibrated

need_module("executorch", "pip install 'edge-stscq[executorch]'")
need_module("onnxscript", "pip install 'edge-stscq[onnx]'")

LAX = Thresholds(
    runtime_agreement=0, token_agreement=0, clear_agreement=0, group_agreement=0, identity=-1, target_agreement=0
)


@pytest.fixture(scope="module")
def crops() -> NDArray[np.uint8]:
    return np.stack(candidates(12))


@pytest.fixture(scope="module")
def codec(calibrated: Calibrated) -> es.Codec:
    """Its student changes when it is quantized, as a user's would."""
    return es.Codec.load(calibrated.folder)


@pytest.fixture(scope="module")
def calibration(codec: es.Codec, crops: NDArray[np.uint8]) -> Calibration:
    return es.quantize(codec, crops[:8], held_out=crops[8:])


@pytest.fixture(scope="module")
def bundle(codec: es.Codec, calibration: Calibration, tmp_path_factory: pytest.TempPathFactory) -> es.Bundle:
    return es.export(codec, "onnx", calibration=calibration, output=tmp_path_factory.mktemp("bundles"))


def test_quantize_calibrates_and_tells_its_steps(calibrated: Calibrated, crops: NDArray[np.uint8]) -> None:
    begun: list[str] = []

    @contextmanager
    def steps(name: str, items: int | None) -> Iterator[Progress]:
        begun.append(name)
        yield lambda done: None

    codec = es.Codec.load(calibrated.folder)
    layer = next(iter(calibrated.calibration.biases))
    found = es.quantize(codec, Faces(tuple(map(str, range(12))), crops), keep=[layer], steps=steps)
    assert (found.count, found.kept) == (10, (layer,))  # a fifth of twelve was held out
    assert begun[1] == "calibrating, faces"
    with pytest.raises(es.EdgeError, match="give one of them"):
        es.quantize(codec, crops, min_agreement=0.5, keep=[layer])


def test_quantize_leaves_a_student_of_integers_alone(integer_model: Path, crops: NDArray[np.uint8]) -> None:
    with pytest.raises(es.EdgeError, match="no float32 student"):
        es.quantize(es.Codec.load(integer_model), crops)


def test_export_writes_a_bundle_that_answers_like_its_codec(
    bundle: es.Bundle, codec: es.Codec, crops: NDArray[np.uint8]
) -> None:
    assert bundle.folder.name == "onnx-int8"
    assert codec.with_encoder(bundle).name.startswith("onnx int8 on onnxruntime")
    equal = codec.with_encoder(bundle).encode(crops).equal_tokens(codec.encode(crops))
    assert equal.mean() > 0.5
    face = bundle.load_encoder().encode_frame(crops[0])
    expected = codec.with_encoder(bundle).encode(crops[0])[0]
    assert [layers for layers, _ in face.payloads] == [1, expected.layers]
    assert face.payloads[1][1] == bundle.frames.payload(expected)
    assert codec.decompress(bundle.frames.write([expected])).shape == (1, 128, 128, 3)


def test_no_convolution_of_an_int8_bundle_falls_back(bundle: es.Bundle) -> None:
    found = target_of(bundle).delegation(bundle)
    assert found is not None
    assert found["ArgMin"] == found["ArgMax"] == 1
    assert not any("conv" in kind.lower() for kind in found)


def test_export_refuses_what_it_cannot_make(codec: es.Codec, bundle: es.Bundle) -> None:
    with pytest.raises(es.EdgeError, match="one by one"):
        es.export(codec, "all")
    with pytest.raises(es.EdgeError, match="executorch has no w8"):
        es.export(codec, "executorch", "w8")
    with pytest.raises(es.EdgeError, match="exists"):
        es.export(codec, "onnx", output=bundle.folder.parent)


def test_parity_reports_and_writes_a_page(
    bundle: es.Bundle, codec: es.Codec, calibration: Calibration, crops: NDArray[np.uint8], tmp_path: Path
) -> None:
    """Of a threshold that nothing reaches beside some that all does: so it is the caller's that are asked for."""
    thresholds = LAX.model_copy(update={"identity": 1.1})
    report = es.parity([bundle], codec, crops, thresholds=thresholds, calibration=calibration)
    found = report.bundles[0].report
    assert not report.passed
    assert [check.figure.split(" (")[0] for check in found.checks if not check.passed] == ["identity cosine"]
    assert found.runtime.tokens > 0.9
    report.to_html(tmp_path / "new" / "parity.html")
    assert b"onnx int8" in (tmp_path / "new" / "parity.html").read_bytes()


def test_parity_is_of_one_model(bundle: es.Bundle, integer_model: Path) -> None:
    with pytest.raises(es.EdgeError, match="is of model"):
        es.parity([bundle], es.Codec.load(integer_model))
    with pytest.raises(es.EdgeError, match="no bundle"):
        es.parity([], es.Codec.load(integer_model))


@pytest.fixture
def lfw(tmp_path: Path) -> tuple[Path, Path]:
    """Crops of noise, and pairs of them in two folds."""
    (tmp_path / "pairs.txt").write_text("2\t1\nA\t1\t2\nA\t1\tB\t1\nC\t1\t2\nC\t1\tD\t1\n")
    (tmp_path / "crops").mkdir()
    random = np.random.default_rng(0)
    for name in ("A_0001", "A_0002", "B_0001", "C_0001", "C_0002", "D_0001"):
        cv2.imwrite(str(tmp_path / "crops" / f"{name}.png"), random.integers(0, 256, (128, 128, 3), np.uint8))
    return tmp_path / "crops", tmp_path / "pairs.txt"


def test_evaluate_verifies_layer_by_layer(
    tiny_model: Path, lfw: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("EDGE_STSCQ_DATA", raising=False)
    report = es.evaluate(es.Codec.load(tiny_model), *lfw, layers=[1, 3])
    assert [layer.name for layer in report.layers] == ["basic", "enhanced"]
    assert (report.faces, report.originals) == (6, {})


def test_rate_needs_a_judge(tiny_model: Path, lfw: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EDGE_STSCQ_DATA", raising=False)
    with pytest.raises(es.EdgeError, match="needs a judge"):
        es.rate(es.Codec.load(tiny_model), *lfw)


def test_rate_measures_a_peer(tiny_model: Path, lfw: tuple[Path, Path], shared_data: Path, tmp_path: Path) -> None:
    judges, output = shared_data / "recognisers", tmp_path / "out"
    report = es.rate(es.Codec.load(tiny_model), *lfw, peers=["webp"], recognizers=judges, output=output)
    assert [curve.codec for curve in report.peers] == ["WebP"]
    assert (output / "rate.png").stat().st_size > 1000


@pytest.mark.parametrize("verb", ["train", "distill", "finetune"])
def test_training_verbs_name_a_missing_recipe(verb: str, tmp_path: Path) -> None:
    """The rest of the verbs is tested where the commands are, which do nothing but call them; so is `benchmark`."""
    words = [tmp_path / "none.toml", *([tmp_path] if verb != "train" else []), tmp_path]
    with pytest.raises(es.EdgeError, match=r"none\.toml"):
        getattr(es, verb)(*words, output=tmp_path / "run")

"""Operators that an artefact leaves to slower kernels, read from bundles of the golden model."""

from pathlib import Path

from edge_stscq.bundle import open_bundle
from targets import target_of
from tests.support.models.golden_model import KEPT


def delegation(folder: Path) -> dict[str, int] | None:
    bundle = open_bundle(folder)
    return target_of(bundle).delegation(bundle)


def test_search_falls_back_as_designed_and_no_convolution(bundles: dict[str, Path]) -> None:
    """No convolution falls back but those that the calibration keeps in float32, and the search does as designed.

    That none does where none is kept, `tests/api/test_verbs.py` shows.
    """
    onnx, executorch = (delegation(bundles[name]) for name in ("onnx", "executorch"))
    assert onnx is not None
    assert executorch is not None
    assert onnx["ArgMin"] == onnx["ArgMax"] == 1
    assert executorch["argmin"] == executorch["argmax"] == 1
    assert sum(count for kind, count in onnx.items() if "conv" in kind.lower()) <= len(KEPT)
    assert not any("conv" in kind.lower() for kind in executorch)


def test_core_ml_does_not_tell(bundles: dict[str, Path]) -> None:
    assert delegation(bundles["coreml"]) is None

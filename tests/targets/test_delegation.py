"""What an artefact leaves to slower kernels, read from bundles of the tiny model."""

from pathlib import Path

from edge_stscq.bundle import open_bundle
from targets import target_of


def delegation(folder: Path) -> dict[str, int] | None:
    bundle = open_bundle(folder)
    return target_of(bundle).delegation(bundle)


def test_no_convolution_falls_back_and_the_search_does_as_designed(bundles: dict[str, Path]) -> None:
    onnx, executorch = (delegation(bundles[name]) for name in ("onnx", "executorch"))
    assert onnx is not None
    assert executorch is not None
    assert onnx["ArgMin"] == onnx["ArgMax"] == 1
    assert executorch["argmin"] == executorch["argmax"] == 1
    assert not any("conv" in kind.lower() for kind in (*onnx, *executorch))


def test_core_ml_does_not_tell(bundles: dict[str, Path]) -> None:
    assert delegation(bundles["coreml"]) is None

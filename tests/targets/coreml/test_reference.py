"""The reference executor: every operator on programs saved to disk and read back, and what it says of a bad package.

All cases stand in one program, each as an output of its own, since converting a program takes a second.
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_stscq._quiet import silence_exporters
from edge_stscq.errors import EdgeError
from targets import coreml
from targets.coreml import reference
from targets.coreml.operators import OPERATORS
from targets.coreml.package import locate, write_package
from targets.coreml.program import BlobFile, read_program
from tests.support.installed import need_package
from tests.targets.coreml.mil_cases import CASES, INPUTS, WEIGHT, Case, mb

need_package("coremltools", "pip install 'edge-stscq[coreml]'")


def save(path: Path, body: Callable[..., Any]) -> Path:
    """Write the program of `body`, which takes the inputs by name, as a package."""
    ct = coreml.import_coremltools()
    from coremltools.converters.mil.mil import types

    dtypes = {np.dtype(np.float32): types.fp32, np.dtype(np.int32): types.int32}
    specs = [mb().TensorSpec(array.shape, dtype=dtypes[array.dtype]) for array in INPUTS.values()]

    def program(x: Any, v: Any, b: Any, i: Any, h: Any) -> Any:
        return body(x=x, v=v, b=b, i=i, h=h)

    with silence_exporters():
        model = ct.convert(
            mb().program(input_specs=specs, opset_version=ct.target.iOS17)(program),
            source="milinternal",
            minimum_deployment_target=ct.target.iOS17,
            compute_precision=ct.precision.FLOAT32,
            pass_pipeline=ct.PassPipeline.EMPTY,
            skip_model_load=True,
        )
    write_package(model.get_spec(), Path(model.weights_dir) / "weight.bin", path)
    return path


def weighted(extra: Callable[[Any], Any]) -> Callable[..., Any]:
    """A program with one convolution, whose weights fill the blob file, and another operator on v."""
    return lambda **a: (mb().conv(x=a["x"], weight=WEIGHT), extra(a["v"]))


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All cases, in their order."""
    path = tmp_path_factory.mktemp("mil") / "operators.mlpackage"
    return save(path, lambda **inputs: tuple(case.build(**inputs) for case in CASES))


@pytest.fixture(scope="module")
def results(package: Path) -> dict[str, np.ndarray]:
    program = read_program(package)
    outputs = reference.ReferenceProgram(program).evaluate(INPUTS)
    return {case.name: outputs[name] for case, name in zip(CASES, program.outputs, strict=True)}


@pytest.fixture
def damaged(package: Path, tmp_path: Path) -> Path:
    """A copy to spoil."""
    return Path(shutil.copytree(package, tmp_path / "copy.mlpackage"))


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_operator(case: Case, results: dict[str, np.ndarray]) -> None:
    expected = np.asarray(case.expected)
    assert results[case.name].shape == expected.shape
    np.testing.assert_allclose(results[case.name], expected, rtol=2e-5, atol=2e-5)


def test_every_operator_has_a_case() -> None:
    assert {case.name.split(",")[0] for case in CASES} == OPERATORS.keys()


def test_constants_are_those_that_coremltools_reads(package: Path) -> None:
    from coremltools.libmilstoragepython import _BlobStorageReader
    from coremltools.proto import Model_pb2

    model_file, weights = locate(package)
    model = Model_pb2.Model.FromString(model_file.read_bytes())
    block = model.mlProgram.functions["main"].block_specializations["CoreML7"]
    values = [value for operation in block.operations for value in operation.attributes.values()]
    blobs = [value for value in values if value.WhichOneof("value") == "blobFileValue"]
    theirs, ours = _BlobStorageReader(str(weights)), BlobFile(weights)
    dtypes = {types_number("FLOAT32"): np.float32, types_number("INT8"): np.int8}
    read = {np.float32: theirs.read_float_data, np.int8: theirs.read_int8_data}
    seen = set()
    for blob in blobs:
        dtype = dtypes[blob.type.tensorType.dataType]
        expected = np.asarray(read[dtype](blob.blobFileValue.offset)).view(dtype)
        np.testing.assert_array_equal(ours.read(blob.blobFileValue.offset, np.dtype(dtype), expected.shape), expected)
        seen.add(dtype)
    assert seen == {np.float32, np.int8}


def types_number(name: str) -> int:
    from coremltools.proto import MIL_pb2

    return int(MIL_pb2.DataType.Value(name))


def test_unknown_operators_are_named(tmp_path: Path) -> None:
    path = save(tmp_path / "a.mlpackage", weighted(lambda v: mb().softmax(x=mb().erf(x=v))))
    with pytest.raises(EdgeError, match="does not know the MIL operator.* erf, softmax"):
        reference.load(path)


def test_an_undefined_gather_is_an_error(tmp_path: Path) -> None:
    def body(x: Any, v: Any, i: Any, **_: Any) -> Any:
        return mb().conv(x=x, weight=WEIGHT), mb().gather(x=v, indices=i)

    program = reference.load(save(tmp_path / "a.mlpackage", body))
    for index in (-1, 2):
        with pytest.raises(EdgeError, match=r"\(gather\) cannot be run"):
            program.evaluate(INPUTS | {"i": np.full((2, 3), index, np.int32)})


def test_result_other_than_declared_is_an_error(damaged: Path) -> None:
    """A result that is not what the program declares is an error."""
    from coremltools.proto import Model_pb2

    model_file, _ = locate(damaged)
    model = Model_pb2.Model.FromString(model_file.read_bytes())
    block = model.mlProgram.functions["main"].block_specializations["CoreML7"]
    transpose = next(operation for operation in block.operations if operation.type == "transpose")
    transpose.outputs[0].type.tensorType.dimensions[0].constant.size = 5
    model_file.write_bytes(model.SerializeToString())
    with pytest.raises(
        EdgeError, match=r"\(transpose\) gave float32 \[4, 3, 5\], the program declares float32 \[5, 3, 5\]"
    ):
        reference.load(damaged).evaluate(INPUTS)


def test_inputs_are_checked(package: Path) -> None:
    program = reference.load(package)
    with pytest.raises(EdgeError, match=r"input 'i' is int32 \[2, 3\], not float32 \[2, 3\]"):
        program.evaluate(INPUTS | {"i": np.zeros((2, 3), np.float32)})
    with pytest.raises(EdgeError, match=r"input 'v' is float32 \[2, 5\], not nothing"):
        program.evaluate({name: array for name, array in INPUTS.items() if name != "v"})


def test_damaged_weights_are_refused(damaged: Path) -> None:
    _, weights = locate(damaged)
    data = bytearray(weights.read_bytes())
    weights.write_bytes(data[: len(data) // 2])
    with pytest.raises(EdgeError, match=r"weight.bin is damaged: no constant at byte \d+"):
        reference.load(damaged)
    data[64 + 4] ^= 7  # the type in the first blob's metadata
    weights.write_bytes(data)
    with pytest.raises(EdgeError, match=r"weight.bin is damaged: the constant at byte 64 has type"):
        reference.load(damaged)


@pytest.mark.parametrize("content", [b"", b"\xff\xff\xff", None])
def test_a_damaged_model_is_refused(damaged: Path, content: bytes | None) -> None:
    model_file, _ = locate(damaged)
    if content is None:
        model_file.unlink()
    else:
        model_file.write_bytes(content)
    with pytest.raises(EdgeError, match="export .* again"):
        reference.load(damaged)


def test_a_manifest_that_points_outside_is_refused(damaged: Path) -> None:
    file = damaged / "Manifest.json"
    manifest = json.loads(file.read_bytes())
    manifest["itemInfoEntries"][manifest["rootModelIdentifier"]]["path"] = "../../../model.mlmodel"
    file.write_text(json.dumps(manifest))
    with pytest.raises(EdgeError, match="not a complete Core ML package"):
        reference.load(damaged)
    file.write_text("[]")
    with pytest.raises(EdgeError, match="not a complete Core ML package"):
        reference.load(damaged)

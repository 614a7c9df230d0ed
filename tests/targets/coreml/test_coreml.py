"""Core ML packages of a real (small) student, in full precision and int8, against the graphs they were made from.

The student's weights are random, so its codebooks are filled with its own token vectors: otherwise all pictures would
have the same tokens and agreement would say nothing.
"""

from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.export import ExportedProgram

from edge_stscq.bundle.model_folder import load_config
from edge_stscq.codec.encoder import EdgeEncoder, normalize_image
from edge_stscq.codec.encoder import student as new_student
from edge_stscq.config.codec import CodecConfig
from edge_stscq.errors import EdgeError
from edge_stscq.stream import Codes
from quantization import calibrate, capture, captured_graph
from targets import coreml
from targets.coreml import reference
from targets.coreml.package import locate
from targets.coreml.program import Program, read_program
from tests.support.installed import need_package

need_package("coremltools", "pip install 'edge-stscq[coreml]'")
need_package("executorch", "pip install 'edge-stscq[executorch]'")


def pictures(count: int, seed: int) -> Tensor:
    """Soft blobs of colour with a little noise, uint8 [count, 128, 128, 3]."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, 3, 6, 6, generator=generator)
    fine = nn.functional.interpolate(coarse, 128, mode="bicubic") + 0.03 * torch.randn(
        count, 3, 128, 128, generator=generator
    )
    return (fine.clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous()


TEST = pictures(32, seed=2)


def varied_student(config: CodecConfig) -> EdgeEncoder:
    """A student of random weights whose groups and tokens differ from picture to picture."""
    torch.manual_seed(0)
    encoder, images = new_student(config), pictures(48, seed=1)
    for module in encoder.backbone.identity.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")  # the signal dies out in it otherwise
    with torch.no_grad():
        for _ in range(20):
            encoder.train().backbone(normalize_image(images))
        embedding = encoder.eval().analyse(images).embedding
        encoder.backbone.identity.project.bias -= embedding.mean(0)  # all point one way otherwise
        analysis = encoder.analyse(images)
        encoder.router.layers[-1].bias -= analysis.group_logits.median(0).values
        books = encoder.codebooks.books
        for m, k in np.ndindex(books.shape[0], books.shape[2]):
            books[m, :, k] = analysis.z[(m * books.shape[2] + k) % len(images), : books.shape[1]]
    return encoder


def execute(package: Path, images: np.ndarray) -> Codes:
    """Answers of the saved package to pictures uint8 [G, 128, 128, 3]."""
    program = reference.load(package)
    groups, tokens = zip(*(program.run(image[None]) for image in images), strict=True)
    return Codes(groups, np.stack(tokens), 3)


class Lowered(NamedTuple):
    package: Path
    program: ExportedProgram


def answers(program: ExportedProgram) -> tuple[np.ndarray, np.ndarray]:
    """Groups [32] and tokens [32, T] of the graph itself."""
    module = program.module()
    with torch.no_grad():
        results = [module(image[None]) for image in TEST]
    return np.concatenate([group for group, _ in results]), np.concatenate([tokens for _, tokens in results])


def lower(program: ExportedProgram, path: Path) -> Lowered:
    coreml.TARGET.lower(program, path)
    return Lowered(path, program)


@pytest.fixture(scope="module")
def encoder(tiny_model: Path) -> EdgeEncoder:
    return varied_student(load_config(tiny_model))


@pytest.fixture(scope="module")
def full(encoder: EdgeEncoder, tmp_path_factory: pytest.TempPathFactory) -> Lowered:
    return lower(captured_graph(encoder), tmp_path_factory.mktemp("fp32") / "encoder.mlpackage")


@pytest.fixture(scope="module")
def int8(encoder: EdgeEncoder, tmp_path_factory: pytest.TempPathFactory) -> Lowered:
    calibration = calibrate(encoder, pictures(16, seed=3).numpy())
    return lower(capture(encoder, "int8", calibration).program, tmp_path_factory.mktemp("int8") / "encoder.mlpackage")


def test_full_precision_gives_the_tokens_of_the_graph(full: Lowered) -> None:
    groups, tokens = answers(full.program)
    assert len(np.unique(groups)) == 2
    assert min(len(np.unique(column)) for column in tokens.T) >= 4
    result = execute(full.package, TEST.numpy())
    np.testing.assert_array_equal(result.group, groups)
    np.testing.assert_array_equal(result.tokens, tokens)


def test_int8_gives_the_tokens_of_the_quantized_graph(int8: Lowered) -> None:
    groups, tokens = answers(int8.program)
    result = execute(int8.package, TEST.numpy())
    # Convolutions are summed in another order, so that single activations round to the next code.
    assert (result.group == groups).mean() >= 0.9
    same = result.group == groups
    assert (result.tokens[same] == tokens[same]).mean() >= 0.95


def test_nearest_group_and_shared_codebooks_convert(tiny_model: Path, tmp_path: Path) -> None:
    config = load_config(tiny_model).model_copy(update={"group_rule": "nearest", "token_specific": False})
    lowered = lower(captured_graph(varied_student(config)), tmp_path / "encoder.mlpackage")
    groups, tokens = answers(lowered.program)
    result = execute(lowered.package, TEST.numpy())
    np.testing.assert_array_equal(result.group, groups)
    np.testing.assert_array_equal(result.tokens, tokens)


def test_interface(full: Lowered, int8: Lowered, encoder: EdgeEncoder) -> None:
    for package in (full.package, int8.package):
        program = read_program(package)
        (image,) = program.inputs
        assert (image.name, image.dtype, image.shape) == ("image", np.int32, (1, 128, 128, 3))
        results = {output.name: output for operation in program.operations for output in operation.outputs}
        group, tokens = (results[name] for name in program.outputs)
        assert (group.name, group.dtype, group.shape) == ("group", np.int32, (1,))
        assert (tokens.name, tokens.dtype, tokens.shape) == ("tokens", np.int32, (1, encoder.config.tokens))


def test_int8_weights_and_activations_are_int8(int8: Lowered, full: Lowered, encoder: EdgeEncoder) -> None:
    program = read_program(int8.package)
    kinds = Counter(operation.kind for operation in program.operations)
    weights = [operation for operation in program.operations if operation.kind == "constexpr_affine_dequantize"]
    by_name = {operation.name: operation for operation in program.operations}
    convolutions = [operation for operation in program.operations if operation.kind == "conv"]
    for convolution in convolutions:
        assert by_name[first(convolution.inputs["weight"])].kind == "constexpr_affine_dequantize"
        source = by_name[first(convolution.inputs["x"])]
        assert source.kind == "dequantize"
    for weight in weights:
        data, scale = constant(program, weight, "quantized_data"), constant(program, weight, "scale")
        assert data.dtype == np.int8
        assert scale.shape == (len(data),)
    expected = sum(isinstance(module, nn.Conv2d) for module in encoder.backbone.modules())
    assert len(weights) >= len(convolutions) == expected
    assert kinds["quantize"] >= expected
    small, large = (locate(lowered.package)[1].stat().st_size for lowered in (int8, full))
    saved = 3 * sum(constant(program, weight, "quantized_data").size for weight in weights)
    assert 0.9 * saved < large - small <= saved


def first(source: Any) -> str:
    assert isinstance(source, tuple)
    return str(source[0])


def constant(program: Program, operation: Any, key: str) -> np.ndarray:
    source = operation.inputs[key]
    value = program.constants[source[0]] if isinstance(source, tuple) else source
    assert isinstance(value, np.ndarray)
    return value


def test_floats_are_float32(full: Lowered, int8: Lowered) -> None:
    for package in (full.package, int8.package):
        program = read_program(package)
        dtypes = {output.dtype for operation in program.operations for output in operation.outputs}
        assert np.dtype(np.float16) not in dtypes
        assert np.dtype(np.float32) in dtypes


def contents(package: Path) -> dict[str, bytes]:
    return {str(file.relative_to(package)): file.read_bytes() for file in package.rglob("*") if file.is_file()}


def test_no_date_and_no_folder_of_this_machine_is_written(full: Lowered, int8: Lowered) -> None:
    for package in (full.package, int8.package):
        files = contents(package)
        assert sorted(files) == [
            "Data/com.apple.CoreML/model.mlmodel",
            "Data/com.apple.CoreML/weights/weight.bin",
            "Manifest.json",
        ]
        model = files["Data/com.apple.CoreML/model.mlmodel"]
        assert b"conversion_date" not in model
        assert b"com.github.apple.coremltools.version" in model
        assert str(Path(coreml.__file__).parents[2]).encode() not in model


class Reciprocal(nn.Module):
    """Divides by hundredths: 1 / (x + 0.0001) would be off by one in a hundred."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("hundredths", torch.full((64,), 0.01))

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        x = image[:, 0, :64, 0].float() * self.hundredths
        return image[:, 0, 0, 0].int(), (10_000 / x + 0.5).int()


def test_division_is_exact(tmp_path: Path) -> None:
    image = torch.ones(1, 128, 128, 3, dtype=torch.uint8)
    image[0, 0, :64, 0] = torch.arange(1, 65)
    coreml.TARGET.lower(torch.export.export(Reciprocal(), (image,)), tmp_path / "a.mlpackage")
    outputs = reference.load(tmp_path / "a.mlpackage").evaluate({"image": image.int().numpy()})
    np.testing.assert_array_equal(outputs["tokens"], [[round(1_000_000 / n) for n in range(1, 65)]])


class Bessel(nn.Module):
    """An operator that Core ML does not have."""

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        x = torch.special.bessel_j0(image[:, 0, :, 0].float())
        return x.argmax(1).int(), x.int()


def test_an_operator_without_a_core_ml_form_is_named(tmp_path: Path) -> None:
    program = torch.export.export(Bessel(), (TEST[:1],))
    with pytest.raises(EdgeError, match="does not convert to Core ML: .*bessel_j0"):
        coreml.TARGET.lower(program, tmp_path / "a.mlpackage")
    assert list(tmp_path.iterdir()) == []


def test_a_package_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    program = torch.export.export(Reciprocal(), (TEST[:1],))
    with pytest.raises(EdgeError, match="cannot write"):
        coreml.TARGET.lower(program, tmp_path / "file" / "encoder.mlpackage")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_execute_refuses_what_is_not_a_crop(full: Lowered) -> None:
    with pytest.raises(EdgeError, match=r"a picture is uint8 \[1, 128, 128, 3\], not float32"):
        execute(full.package, TEST[:1].numpy().astype(np.float32))
    with pytest.raises(EdgeError, match=r"not uint8 \[1, 112, 112, 3\]"):
        execute(full.package, np.zeros((1, 112, 112, 3), np.uint8))

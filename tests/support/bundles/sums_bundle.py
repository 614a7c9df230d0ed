"""Bundle made by hand: an ONNX graph of sums whose answer is known without any runtime.

group  = sum of all pixels mod M
tokens = sum of the t-th of T equal strips of rows mod K
"""

from pathlib import Path

import numpy as np
import onnx
import safetensors.numpy
from onnx import TensorProto, helper

from edge_stscq.bundle import Golden, IdentityProjection
from edge_stscq.bundle.manifest import (
    CODEBOOKS,
    GOLDEN,
    PROJECTION,
    TABLES,
    Manifest,
    RuntimeRange,
    TensorSpec,
    sha256_files,
)
from edge_stscq.config.codec import EMBEDDING, CodecConfig, LayerConfig
from edge_stscq.stream import FrameCodec, Tables, model_id

LAYERS = (
    LayerConfig(name="basic", identity=2, identity_dims=4, spatial=2),
    LayerConfig(name="middle", identity=0, spatial=6),
    LayerConfig(name="enhanced", identity=0, spatial=6),
)
CONFIG = CodecConfig(name="sums", groups=3, entries=32, dim=4, layers=LAYERS)
RANGE = RuntimeRange(package="onnxruntime", minimum="1.17", maximum_exclusive="2")


def answer(image: np.ndarray) -> tuple[int, list[int]]:
    """Group and tokens that the graph must answer for a crop."""
    strips = image.reshape(CONFIG.tokens, -1).sum(axis=1, dtype=int)
    return int(strips.sum()) % CONFIG.groups, (strips % CONFIG.entries).tolist()


def sums_onnx(entries: int = CONFIG.entries) -> bytes:
    """The graph as an ONNX file."""
    constants = {
        "strips": np.array([1, CONFIG.tokens, -1], np.int64), "last": np.array([2], np.int64),
        "second": np.array([1], np.int64), "M": np.array(CONFIG.groups, np.int32), "K": np.array(entries, np.int32),
    }  # fmt: skip
    nodes = [
        helper.make_node("Cast", ["image"], ["pixels"], to=TensorProto.INT32),
        helper.make_node("Reshape", ["pixels", "strips"], ["rows"]),
        helper.make_node("ReduceSum", ["rows", "last"], ["sums"], keepdims=0),
        helper.make_node("Mod", ["sums", "K"], ["tokens"]),
        helper.make_node("ReduceSum", ["sums", "second"], ["sum"], keepdims=0),
        helper.make_node("Mod", ["sum", "M"], ["group"]),
    ]
    graph = helper.make_graph(
        nodes,
        "sums",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, [1, 128, 128, 3])],
        [
            helper.make_tensor_value_info("group", TensorProto.INT32, [1]),
            helper.make_tensor_value_info("tokens", TensorProto.INT32, [1, CONFIG.tokens]),
        ],
        [onnx.numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model, full_check=True)
    data: bytes = model.SerializeToString()
    return data


def write_sums_bundle(folder: Path, artefact: bytes | None = None, **changes: object) -> Path:
    """Write a whole bundle; `changes` replace fields of its manifest."""
    random = np.random.default_rng(1)
    folder.mkdir()
    books = random.standard_normal((CONFIG.groups, CONFIG.tokens, CONFIG.entries, CONFIG.dim)).astype(np.float32)
    counts = random.integers(0, 500, books.shape[:3])
    tables = Tables.from_counts(counts, [5, 3, 1], CONFIG.layer_ends)
    tables.save(folder / TABLES)
    images = random.integers(0, 256, (4, 128, 128, 3), np.uint8)
    answers = [answer(image) for image in images]
    groups = np.array([group for group, _ in answers], np.int32)
    tokens = np.array([tokens for _, tokens in answers], np.int32)
    frames = FrameCodec(tables, model_id(books, tables))
    golden = Golden(images, groups, tokens, groups, tokens, None)
    golden.with_payloads(frames, CONFIG.layer_ends).save(folder / GOLDEN)
    rows = random.standard_normal((EMBEDDING, CONFIG.identity_tokens * CONFIG.dim + 2)).astype(np.float32)
    IdentityProjection(rows[:, 2:], rows[:, 0], rows[:, 1]).save(folder / PROJECTION)
    safetensors.numpy.save_file({"books": books}, folder / CODEBOOKS)
    (folder / "encoder.onnx").write_bytes(artefact if artefact is not None else sums_onnx())
    fields: dict[str, object] = {
        "name": "sums-onnx-fp32", "target": "onnx", "precision": "fp32", "artefact": "encoder.onnx",
        "model_id": frames.model_id.hex(), "config": CONFIG,
        "inputs": (TensorSpec(name="image", shape=(1, 128, 128, 3), dtype="uint8", description="crop"),),
        "outputs": (
            TensorSpec(name="group", shape=(1,), dtype="int32", description="switched codebook set"),
            TensorSpec(name="tokens", shape=(1, CONFIG.tokens), dtype="int32", description="codebook indices"),
        ),
        "tool_versions": {"onnx": onnx.__version__}, "runtime": RANGE, "files": sha256_files(folder),
    }  # fmt: skip
    Manifest.model_validate(fields | changes).save(folder)
    return folder

"""Bundle of a model folder whose artifact is never run: it opens and matches, and takes no export."""

from pathlib import Path

import numpy as np
import safetensors.numpy

from edge_stscq.bundle import Golden
from edge_stscq.bundle.manifest import CODEBOOKS, GOLDEN, PROJECTION, TABLES, Manifest, TensorSpec, sha256_files
from edge_stscq.bundle import model_folder
from edge_stscq.codec import store
from edge_stscq.config.codec import CROP
from targets.captured import identity_projection
from tests.support.bundles.sums_bundle import RANGE


def write_unrun_bundle(folder: Path, model: Path) -> Path:
    """Write the bundle; its one golden picture is black and its tokens are all 0."""
    folder.mkdir()
    config, books, frames = model_folder.load_config(model), model_folder.full_books(model), model_folder.load_frame_codec(model)
    (folder / "encoder.onnx").write_bytes(b"")
    safetensors.numpy.save_file({"books": books}, folder / CODEBOOKS)
    model_folder.load_tables(model).save(folder / TABLES)
    identity_projection(store.load_student(model)).save(folder / PROJECTION)
    group, tokens = np.zeros(1, np.int32), np.zeros((1, config.tokens), np.int32)
    golden = Golden(np.zeros((1, CROP, CROP, 3), np.uint8), group, tokens, group, tokens, None)
    golden.with_payloads(frames, config.layer_ends).save(folder / GOLDEN)
    Manifest(
        name=config.name, target="onnx", precision="fp32", artefact="encoder.onnx", model_id=frames.model_id.hex(),
        config=config, inputs=(TensorSpec(name="image", shape=(1, CROP, CROP, 3), dtype="uint8", description="crop"),),
        outputs=(
            TensorSpec(name="group", shape=(1,), dtype="int32", description="codebook group"),
            TensorSpec(name="tokens", shape=(1, config.tokens), dtype="int32", description="codebook entries"),
        ),
        tool_versions={}, runtime=RANGE, files=sha256_files(folder),
    ).save(folder)  # fmt: skip
    return folder

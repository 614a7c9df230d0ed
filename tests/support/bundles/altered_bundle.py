"""Bundles that were changed and listed anew."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import safetensors.numpy
from numpy.typing import NDArray

from edge_stscq.bundle import Golden, open_bundle
from edge_stscq.bundle.manifest import (
    GOLDEN,
    MANIFEST,
    PROJECTION,
    SELF_HASH_FIELD,
    Manifest,
    sealed_json,
    sha256_files,
)

from edge_stscq.stream import FrameCodec, Tables
from edge_stscq.stream.learned import Learned
from edge_stscq.stream.learned.weights import FILE as LEARNED
from tests.support.models.learned_weights import draw_weights

Tensors = dict[str, NDArray[Any]]


def reseal(folder: Path, **changes: object) -> Path:
    """List the files as they are now, as somebody would who can run our code."""
    manifest = Manifest.load(folder)
    Manifest.model_validate(manifest.model_dump() | {"files": sha256_files(folder)} | changes).save(folder)
    return folder


def change_golden(folder: Path, change: Callable[[Tensors], None]) -> Path:
    """Rewrite the golden vectors by `change`, which is given all but the payloads; these are made of the new tokens."""
    bundle = open_bundle(folder)
    tensors = safetensors.numpy.load_file(folder / GOLDEN)
    del tensors["payloads"], tensors["payload_lengths"]
    change(tensors)
    golden = Golden(**tensors, payloads=None)
    golden.with_payloads(bundle.frames, bundle.config.layer_ends).save(folder / GOLDEN)
    return reseal(folder)


def change_two_tokens(golden: Tensors) -> None:
    """Make two golden tokens differ from what the artifact answers."""
    for name in ("tokens", "other_tokens"):
        golden[name][[2, 3], [5, 0]] ^= 1


def as_learned(folder: Path) -> Path:
    """Make a bundle of the static tables one of a learned coder, whose weights are drawn."""
    frames, golden = open_bundle(folder).frames, open_bundle(folder).golden
    tables = frames.entropy
    assert isinstance(tables, Tables)
    learned = Learned(draw_weights(tables), tables)
    learned.weights.save(folder / LEARNED)
    coded = FrameCodec(tables, frames.model_id, learned.coder_id, learned)
    golden.with_payloads(coded, tables.layer_ends).save(folder / GOLDEN)
    return reseal(folder, format_version=4, coder="learned")


def as_format(folder: Path, version: int) -> Path:
    """Make a bundle of format 3 one of format 1 or 2, as earlier versions wrote it."""
    (folder / PROJECTION).unlink()
    tensors = safetensors.numpy.load_file(folder / GOLDEN)
    del tensors["payloads"], tensors["payload_lengths"]
    safetensors.numpy.save_file(tensors, folder / GOLDEN)
    content = json.loads((folder / MANIFEST).read_text())
    content |= {"format_version": version, "files": sha256_files(folder)}
    del content[SELF_HASH_FIELD]
    if version == 1:  # three fields in the configuration, no list of layers
        del content["layers"], content["config"]["format_version"]
        for layer in content["config"].pop("layers"):
            content["config"][layer["name"]] = {name: layer[name] for name in ("identity", "spatial", "identity_dims")}
    (folder / MANIFEST).write_text(sealed_json(content))
    return folder

"""Writing bundles: lower, run in a fresh process, describe, and only then give the folder its name.

A bundle is made in a hidden folder beside its place and moved there in one step when all of it is there and has run.
So there is no bundle that was not tried, and none that is half written.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray

import edge_stscq
from edge_stscq.codec.config import CodecConfig
from edge_stscq.device import Manifest, open_bundle
from edge_stscq.device.manifest import (
    CODEBOOKS,
    GOLDEN,
    MANIFEST,
    TABLES,
    Precision,
    QuantisationSpec,
    TensorSpec,
    sha256_files,
)
from edge_stscq.errors import EdgeError
from edge_stscq.stream import Tables, model_id
from edge_stscq.stream.files import write_file
from targets import golden, integers
from targets.base import GROUP, TOKENS, Prediction, Target
from targets.check import run_fresh

if TYPE_CHECKING:
    from torch.export import ExportedProgram

LEAST_AGREEMENT = 0.98
"""Share of the graph's golden tokens that its artefact must give. The backbone is exact on every runtime
(`quantization/exact.py`); what is summed in another order behind it may turn a tie."""


@dataclass(frozen=True, eq=False)
class Source:
    """A model ready to be lowered: all that bundles of one precision have in common.

    Attributes:
        program: the graph; `targets/base.py` describes it.
        signed_program: the same graph with signed activations, of a student made for integers.
        images: golden pictures uint8 [G, 128, 128, 3].
        expected: what the graph answers to them.
        other: as good an answer where it is a tie, the expected one elsewhere; `targets/golden.py` says what a tie is.
        books: float32 [M, T, K, D].
    """

    config: CodecConfig
    precision: Precision
    program: "ExportedProgram"
    images: NDArray[np.uint8]
    expected: Prediction
    other: Prediction
    books: NDArray[np.float32]
    tables: Tables
    quantisation: QuantisationSpec | None
    signed_program: "ExportedProgram | None" = None

    @property
    def exact(self) -> bool:
        """Whether every artefact must give exactly the expected tokens."""
        return self.signed_program is not None

    def program_for(self, target: Target) -> "ExportedProgram":
        """The graph as the target's kernels like it."""
        return self.signed_program if self.signed_program is not None and target.signed else self.program


@dataclass(frozen=True)
class Written:
    """A bundle that was written.

    Attributes:
        artefact_bytes, bundle_bytes: sizes of the artefact alone and of the whole folder.
        network_bytes: size of the artefact without the codebooks in it, where that is known.
        agreement: share of golden tokens that are equal to the graph's.
        runtime: what ran the artefact, e.g. "onnxruntime 1.31.1".
    """

    target: str
    precision: str
    folder: Path
    model_id: str
    artefact_bytes: int
    network_bytes: int | None
    bundle_bytes: int
    agreement: float
    runtime: str


def load_source(model: Path, precision: Precision) -> Source:
    """Read a model folder and capture its student's graph.

    Raises:
        EdgeError: the folder is incomplete or, but for fp32, was not calibrated since the student was trained.
    """
    import torch

    from edge_stscq.codec import store
    from edge_stscq.codec.integer_encoder import IntegerEncoder
    from quantization import WEIGHT_ONLY, Calibration, captured_graph, quantized_encoder, weight_only_encoder

    config, books = store.load_config(model), store.full_books(model)
    student = encoder = store.load_student(model)
    quantisation = None
    if isinstance(student, IntegerEncoder):
        if precision == "w8":
            raise EdgeError(integers.NO_WEIGHT_ONLY)
        if precision == "int8":
            found = integers.capture(student, books)
            return Source(
                config, precision, found.unsigned, found.images, found.expected, found.expected, books,
                store.load_tables(model), QuantisationSpec(scheme=integers.SCHEME), found.signed,
            )  # fmt: skip
        student.quantize(False)
    elif precision != "fp32":
        calibration = Calibration.load(model)
        make = quantized_encoder if precision == "int8" else weight_only_encoder
        encoder = make(student, calibration)
        quantisation = QuantisationSpec(
            scheme=calibration.scheme if precision == "int8" else WEIGHT_ONLY,
            calibration_images=calibration.count, calibration_sha256=calibration.faces_sha256,
        )  # fmt: skip

    def look(encoder: store.Student, pictures: NDArray[np.uint8]) -> golden.View:
        found = encoder.analyse(torch.from_numpy(pictures))
        return golden.view(found.group_logits.numpy(), found.group.numpy(), found.z.numpy(), books)

    images, unsure = golden.choose(partial(look, student), config.groups)
    seen = golden.View(*map(np.concatenate, zip(*(look(encoder, image[None]) for image in images), strict=True)))
    other = Prediction(
        np.where(unsure, seen.other_group, seen.group),
        np.where(seen.border < golden.TIE, seen.runner_up, seen.tokens),
    )
    program = captured_graph(encoder)
    graph = program.module()
    answers = [graph(torch.from_numpy(image)[None]) for image in images]
    expected = Prediction(*(torch.cat(part).numpy() for part in zip(*answers, strict=True)))
    return Source(
        config, precision, program, images, expected, other, books, store.load_tables(model), quantisation,
    )  # fmt: skip


def bundle_folder(output: Path, target: Target, precision: Precision) -> Path:
    """Where a bundle goes below the output folder."""
    return output / f"{target.name}-{precision}"


def check_free(folder: Path, force: bool) -> None:
    """Refuse a place that is taken: by anything but a bundle, or by a bundle without `force`.

    Raises:
        EdgeError: the message says how to go on.
    """
    if folder.exists() and not (folder / MANIFEST).is_file():
        raise EdgeError(f"{folder} exists and is not a bundle; choose another folder with -o")
    if folder.exists() and not force:
        raise EdgeError(f"{folder} exists; replace it with --force or choose another folder with -o")


def write_bundle(source: Source, target: Target, folder: Path, *, force: bool = False) -> Written:
    """Lower the graph for a target and write its bundle.

    Args:
        folder: made, with its parents; replaced if it is a bundle and `force` is set.

    Raises:
        EdgeError: the place is taken or not writable, the graph does not convert, or the artefact crashes, takes too
            long or answers differently from the graph. No bundle is left then, and an earlier one stays.
    """
    check_free(folder, force)
    with _appearing(folder) as place:
        target.backend().lower(source.program_for(target), place / target.artefact)
        if source.exact:
            integers.check_artefact(target.name, place / target.artefact)
        write_file(place / CODEBOOKS, safetensors.numpy.save({"books": source.books}))
        source.tables.save(place / TABLES)
        _describe(source, target, place, source.expected)
        answer, runtime = run_fresh(place)
        agreement = float(np.mean(answer.tokens == source.expected.tokens))
        if agreement < LEAST_AGREEMENT or (source.exact and not answer.equals(source.expected)):
            raise EdgeError(f"the artefact gives only {agreement:.1%} of its graph's golden tokens on {runtime}")
        _describe(source, target, place, answer)
    manifest = open_bundle(folder).manifest
    sizes = {name: (folder / name).stat().st_size for name in (*manifest.files, MANIFEST)}
    artefact = sum(size for name, size in sizes.items() if name.split("/")[0] == target.artefact)
    books = manifest.codebook_bytes
    return Written(
        target.name, source.precision, folder, manifest.model_id, artefact, None if books is None else artefact - books,
        sum(sizes.values()), agreement, runtime,
    )  # fmt: skip


def _describe(source: Source, target: Target, folder: Path, answer: Prediction) -> None:
    """Write golden vectors with this answer, and the manifest over all files of the folder.

    Where the artefact answered otherwise than its graph it is at a tie, and the graph's answer is as good.
    """
    groups, tokens = (
        np.where(given == tied, graphs, tied)
        for given, tied, graphs in zip(answer, source.other, source.expected, strict=True)
    )
    vectors = {
        "images": source.images, "groups": answer.groups, "tokens": answer.tokens,
        "other_groups": groups, "other_tokens": tokens,
    }  # fmt: skip
    write_file(folder / GOLDEN, safetensors.numpy.save(vectors))
    length = source.config.tokens
    Manifest(
        name=source.config.name,
        target=target.name,
        precision=source.precision,
        artefact=target.artefact,
        model_id=model_id(source.books, source.tables).hex(),
        config=source.config,
        inputs=(target.image,),
        outputs=(
            TensorSpec(name=GROUP, shape=(1,), dtype="int32", description="codebook group"),
            TensorSpec(name=TOKENS, shape=(1, length), dtype="int32", description="codebook entry of each position"),
        ),
        quantisation=source.quantisation,
        tool_versions=_tool_versions(target, source.precision),
        runtime=target.runtime,
        files=sha256_files(folder),
    ).save(folder)


def _tool_versions(target: Target, precision: Precision) -> dict[str, str]:
    packages = {*target.packages, "torch", *(("torchao", "executorch") if precision != "fp32" else ())}
    return {"edge-stscq": edge_stscq.__version__} | {name: metadata.version(name) for name in sorted(packages)}


@contextmanager
def _appearing(folder: Path) -> Iterator[Path]:
    """A hidden folder to fill; it takes the place of `folder` if the block succeeds and goes away if not.

    Raises:
        EdgeError: the place is not writable.
    """
    scratch: Path | None = None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
        fresh, old = scratch / "new", scratch / "old"
        fresh.mkdir()
        yield fresh
        if folder.exists():
            os.replace(folder, old)
        os.replace(fresh, folder)
    except OSError as error:
        raise EdgeError(f"cannot write {folder}: {error.strerror or error}; choose another folder with -o") from error
    finally:
        if scratch is not None:
            shutil.rmtree(scratch, ignore_errors=True)

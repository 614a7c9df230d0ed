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
from importlib import metadata
from pathlib import Path

import numpy as np
import safetensors.numpy

import edge_stscq
from edge_stscq._files import write_file
from edge_stscq.bundle import Golden, Manifest, open_bundle
from edge_stscq.bundle.manifest import (
    CODEBOOKS,
    GOLDEN,
    MANIFEST,
    PROJECTION,
    TABLES,
    Precision,
    TensorSpec,
    sha256_files,
)
from edge_stscq.errors import EdgeError
from edge_stscq.stream import Codes, FrameCodec, model_id
from edge_stscq.stream.frame import coder_id_of
from edge_stscq.stream.learned.weights import FILE as LEARNED
from edge_stscq.stream.packed import CoderName
from targets.base import GROUP, TOKENS, Target
from targets.captured import CapturedModel
from targets.subprocess_check import verify_in_subprocess

LEAST_AGREEMENT = 0.98
"""Share of the graph's golden tokens that its artefact must give. The backbone is exact on every runtime
(`quantization/exact.py`); what is summed in another order behind it may turn a tie."""


@dataclass(frozen=True)
class ExportResult:
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


def bundle_folder(output: Path, target: Target, precision: Precision) -> Path:
    """Folder of a bundle below the output folder."""
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


def write_bundle(
    source: CapturedModel, target: Target, folder: Path, *, force: bool = False, coder: CoderName = "static"
) -> ExportResult:
    """Lower the graph for a target and write its bundle.

    Args:
        folder: made, with its parents; replaced if it is a bundle and `force` is set.
        coder: of the payloads that the device writes; servers read all.

    Raises:
        EdgeError: the model has no such coder, the place is taken or not writable, the graph does not convert, or the
            artefact crashes, takes too long or answers differently from the graph. No bundle is left then, and an
            earlier one stays.
    """
    check_free(folder, force)
    coder_id_of(coder, source.learned)
    with staged_folder(folder) as place:
        target.check_installed()
        target.lower(source.program_for(target), place / target.artefact)
        if source.exact:
            target.check_exact(place / target.artefact)
        write_file(place / CODEBOOKS, safetensors.numpy.save({"books": source.books}))
        source.tables.save(place / TABLES)
        source.projection.save(place / PROJECTION)
        if source.rule is not None:
            source.rule.save(place)
        if coder == "learned" and source.learned is not None:
            source.learned.weights.save(place / LEARNED)
        _write_manifest(source, target, place, source.expected, coder)
        answer, runtime = verify_in_subprocess(place)
        agreement = float(np.mean(answer.tokens == source.expected.tokens))
        if agreement < LEAST_AGREEMENT or (source.exact and not answer.equal_tokens(source.expected).all()):
            raise EdgeError(f"the artefact gives only {agreement:.1%} of its graph's golden tokens on {runtime}")
        _write_manifest(source, target, place, answer, coder)
    manifest = open_bundle(folder).manifest
    sizes = {name: (folder / name).stat().st_size for name in (*manifest.files, MANIFEST)}
    artefact = sum(size for name, size in sizes.items() if name.split("/")[0] == target.artefact)
    books = manifest.codebook_bytes
    return ExportResult(
        target.name, source.precision, folder, manifest.model_id, artefact, None if books is None else artefact - books,
        sum(sizes.values()), agreement, runtime,
    )  # fmt: skip


def _write_manifest(source: CapturedModel, target: Target, folder: Path, answer: Codes, coder: CoderName) -> None:
    """Write golden vectors with this answer, and the manifest over all files of the folder.

    Where the artefact answered otherwise than its graph it is at a tie, and the graph's answer is as good.
    """
    tied, graphs = source.other, source.expected
    groups = np.where(answer.group == tied.group, graphs.group, tied.group)
    tokens = np.where(answer.tokens == tied.tokens, graphs.tokens, tied.tokens)
    own, coder_id = model_id(source.books, source.tables), coder_id_of(coder, source.learned)
    frames = FrameCodec(source.tables, own, coder_id, source.learned)
    golden = Golden(source.images, answer.group, answer.tokens, groups, tokens, None)
    golden.with_payloads(frames, source.config.layer_ends).save(folder / GOLDEN)
    length = source.config.tokens
    Manifest(
        format_version=3 if coder == "static" else 4,
        coder=coder,
        name=source.config.name,
        target=target.name,
        precision=source.precision,
        artefact=target.artefact,
        model_id=frames.model_id.hex(),
        config=source.config,
        inputs=(target.image,),
        outputs=(
            TensorSpec(name=GROUP, shape=(1,), dtype="int32", description="codebook group"),
            TensorSpec(name=TOKENS, shape=(1, length), dtype="int32", description="codebook entry of each position"),
        ),
        quantisation=source.quantisation,
        tool_versions=_tool_versions(target, source.precision),
        runtime=target.supported,
        files=sha256_files(folder),
    ).save(folder)


def _tool_versions(target: Target, precision: Precision) -> dict[str, str]:
    packages = {*target.packages, "torch", *(("torchao", "executorch") if precision != "fp32" else ())}
    return {"edge-stscq": edge_stscq.__version__} | {name: metadata.version(name) for name in sorted(packages)}


@contextmanager
def staged_folder(folder: Path) -> Iterator[Path]:
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

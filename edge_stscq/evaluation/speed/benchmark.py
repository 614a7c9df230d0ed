"""Speed of artifacts beside the networks in torch and beside picture codecs, in one run.

Everything is timed in one process and interleaved: a round times every encoder once, in an order shuffled anew and on
its next picture, so that a slow moment of the machine falls on all of them alike. One picture at a time, as on a
device.

What the machine can do is the rate of a large matrix product in the same precision and on as many threads. The share of
it counts convolutions and matrix products only, two operations for a multiply-accumulate.
"""

import io
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import cycle
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.flop_counter import FlopCounterMode

from edge_stscq._progress import Progress, no_progress
from edge_stscq.bundle import Bundle, open_bundle
from edge_stscq.codec import store
from edge_stscq.codec.encoder import EdgeEncoder
from edge_stscq.codec.integer.encoder import TokenEncoder
from edge_stscq.codec.model import Codec
from edge_stscq.config.codec import CROP
from edge_stscq.errors import EdgeError, MissingExtraError, require
from edge_stscq.evaluation.speed.peak import peak_fp32, peak_int8
from edge_stscq.evaluation.speed.report import EncodeReport, Peak, Row, Run, Timing
from edge_stscq.evaluation.speed.subprocess_run import SubprocessMeasurement
from targets import target_of
from targets.subprocess_check import load_encoder_or_reference, run_module

Picture = NDArray[np.uint8]
Encode = Callable[[Picture], object]

QUALITY = 20
"""Of WebP and AVIF: low enough to be quick and near our sizes, high enough to still show a face."""
SETTLE_SECONDS = 0.002
"""Seconds of rest before a call: so long the threads of the runtime that ran before wait busily for more."""
_TRIAL = "edge_stscq.evaluation.speed.subprocess_run"
_FRAME = "frame"


@dataclass(frozen=True)
class BenchmarkCase:
    """One encoder of the run.

    Attributes:
        row: what is known of it before it is timed.
        macs: multiply-accumulates for a picture, where it is known.
        ready: with a number of threads: what to time, by the name of the field of `Run`.
    """

    row: Row
    macs: int | None
    prepare: Callable[[int], dict[str, Encode]]


def interleaved(
    functions: Mapping[str, Callable[[], object]], rounds: int, progress: Progress = no_progress
) -> dict[str, Timing]:
    """Time every function `rounds` times after two untimed calls."""
    for function in functions.values():
        function()
        function()
    taken: dict[str, list[float]] = {name: [] for name in functions}
    order, shuffle = list(functions), random.Random(0).shuffle
    for _ in range(rounds):
        shuffle(order)
        for name in order:
            time.sleep(SETTLE_SECONDS)
            start = time.perf_counter()
            functions[name]()
            taken[name].append(1000 * (time.perf_counter() - start))
        progress(1)
    return {name: _timing(times) for name, times in taken.items()}


def _timing(times: list[float]) -> Timing:
    low, middle, high = (round(float(value), 3) for value in np.quantile(times, [0.1, 0.5, 0.9]))
    return Timing(median_ms=middle, p10_ms=low, p90_ms=high, least_ms=round(min(times), 3))


def bundles(folders: list[Path], codec: Codec, macs: int, progress: Progress = no_progress) -> list[BenchmarkCase]:
    """Try every bundle in a fresh process; one that cannot be run stays in the list, with the reason.

    Raises:
        EdgeError: a bundle is of another model than `codec`.
    """
    found = []
    for folder in folders:
        found.append(_bundle(folder, codec, macs))
        progress(1)
    return found


def _bundle(folder: Path, codec: Codec, macs: int) -> BenchmarkCase:
    try:
        bundle = open_bundle(folder)
    except EdgeError as error:
        return _failed(Row(name=str(folder)), error)
    codec.check_bundle(bundle)
    row = _described(bundle)
    try:
        trial = SubprocessMeasurement.model_validate(run_module(_TRIAL, "bundle", folder.resolve()))
    except EdgeError as error:
        return _failed(row, error)
    known: dict[str, object] = {"runtime": trial.runtime, "memory": trial}
    try:
        known["fell_back"] = target_of(bundle).delegation(bundle)
    except EdgeError as error:
        known["reason"] = f"what falls back is not known: {error}"
    if trial.difference is not None:
        known |= {"status": "exported, failed parity", "reason": trial.difference}
    return BenchmarkCase(row.model_copy(update=known), macs, partial(_ready_bundle, bundle))


def _failed(row: Row, error: EdgeError) -> BenchmarkCase:
    return BenchmarkCase(row.model_copy(update={"status": "failed", "reason": str(error)}), None, lambda threads: {})


def _described(bundle: Bundle) -> Row:
    manifest = bundle.manifest
    files = [bundle.folder / name for name in manifest.files if name.split("/")[0] == manifest.artefact]
    size, books = sum(file.stat().st_size for file in files), manifest.codebook_bytes
    return Row(
        name=f"{manifest.target} {manifest.precision}",
        precision=manifest.precision,
        artefact_bytes=size,
        network_bytes=None if books is None else size - books,
    )


def _ready_bundle(bundle: Bundle, threads: int) -> dict[str, Encode]:
    target = target_of(bundle)
    if target.stand_in is None:
        target.runtime.set_threads(threads)
    encoder = load_encoder_or_reference(bundle, threads, verify=False)  # what it answers was compared in the trial
    frames = bundle.frames
    return {"encode": encoder.run, _FRAME: lambda picture: frames.payload(encoder.encode(picture))}


def network(name: str, encoder: EdgeEncoder | TokenEncoder, macs: int, model: Path) -> BenchmarkCase:
    """The "student" in full precision, or the "teacher", of a model folder in torch."""

    @torch.inference_mode()
    def encode(picture: Picture) -> object:
        return encoder(torch.from_numpy(picture[None]))

    trial = SubprocessMeasurement.model_validate(run_module(_TRIAL, name, model.resolve()))
    row = Row(name=name, runtime=trial.runtime, precision="fp32", memory=trial)
    return BenchmarkCase(row, macs, lambda threads: {"encode": encode})


def macs_of(encoder: EdgeEncoder | TokenEncoder) -> int:
    """Multiply-accumulates of convolutions and matrix products for one picture, counted as the graph runs."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        encoder(torch.zeros((1, CROP, CROP, 3), dtype=torch.uint8))
    return int(counter.get_total_flops()) // 2


def picture_codec(kind: str, pictures: Picture) -> BenchmarkCase:
    """Pillow's "WebP" (method 4) or "AVIF" (speed 6).

    Raises:
        MissingExtraError: Pillow is not installed.
        EdgeError: it was built without this codec.
    """
    image = require("PIL.Image", "bench")
    options: dict[str, dict[str, int]] = {"WebP": {"method": 4}, "AVIF": {"speed": 6}}

    def encode(picture: Picture, threads: int = 1) -> bytes:
        file = io.BytesIO()
        more = {"max_threads": threads} if kind == "AVIF" else {}
        image.fromarray(picture).save(file, kind, quality=QUALITY, **options[kind], **more)
        return file.getvalue()

    try:
        size = float(np.mean([len(encode(picture)) for picture in pictures]))
    except (KeyError, OSError) as error:
        raise EdgeError(f"Pillow cannot write {kind} ({error}); run: pip install --upgrade pillow") from None
    settings = ", ".join(f"{key} {value}" for key, value in (options[kind] | {"quality": QUALITY}).items())
    runtime = f"Pillow {require('PIL', 'bench').__version__} ({settings})"
    row = Row(name=kind, runtime=runtime, picture_bytes=round(size, 1))
    return BenchmarkCase(row, None, lambda threads: {"encode": partial(encode, threads=threads)})


def measure(
    folders: list[Path],
    codec: Codec,
    pictures: Picture | None,
    threads: tuple[int, ...],
    rounds: int,
    progress: Progress = no_progress,
) -> EncodeReport:
    """Time bundles of one model, its networks in torch, WebP and AVIF.

    Args:
        pictures: crops uint8 [N, 128, 128, 3]; None for the golden pictures of the first bundle that opens.
        threads: numbers of threads to measure with.
        rounds: times that each encoder runs with each number of threads.
        progress: told of every encoder tried and every round; `count_steps` says how many there are.

    Raises:
        EdgeError: the model is incomplete, a bundle is of another one, or there are no pictures.
    """
    model = codec.folder
    if model is None:
        raise EdgeError("each network runs in a process of its own; give the codec of a model folder")
    shown = _golden(folders) if pictures is None else pictures
    networks = {"student": store.load_student(model).float_twin(), "teacher": store.load_teacher(model)}
    macs = {name: macs_of(encoder) for name, encoder in networks.items()}
    contenders = bundles(folders, codec, macs["student"], progress)
    for name, encoder in networks.items():
        contenders.append(network(name, encoder, macs[name], model))
        progress(1)
    skipped: dict[str, str] = {}
    for kind in ("WebP", "AVIF"):
        try:
            contenders.append(picture_codec(kind, shown))
        except EdgeError as error:
            skipped[kind] = str(error)
    peaks = []
    runs: list[list[Run]] = [[] for _ in contenders]
    for count in threads:
        torch.set_num_threads(count)
        try:
            peaks.append(Peak(threads=count, fp32=peak_fp32(count), int8=peak_int8(count)))
        except MissingExtraError as error:
            peaks.append(Peak(threads=count, fp32=None, int8=None))
            skipped["peaks"] = str(error)
        timings = _time(contenders, shown, count, rounds, progress)
        for found, contender, timed in zip(runs, contenders, timings, strict=True):
            if timed:
                share = _share(contender, timed["encode"], peaks[-1])
                found.append(Run(threads=count, encode=timed["encode"], frame=timed.get(_FRAME), of_peak=share))
    return EncodeReport(
        model=codec.config.name,
        rounds=rounds,
        pictures=len(shown),
        student_macs=macs["student"],
        teacher_macs=macs["teacher"],
        peaks=tuple(peaks),
        encoders=tuple(c.row.model_copy(update={"runs": tuple(r)}) for c, r in zip(contenders, runs, strict=True)),
        skipped=skipped,
    )


def _golden(folders: list[Path]) -> Picture:
    for folder in folders:
        try:
            return open_bundle(folder).golden.images
        except EdgeError:  # its row says why
            continue
    raise EdgeError("none of the bundles opens; export them again, or look at one with `edge-stscq selftest`")


def count_steps(folders: list[Path], threads: tuple[int, ...], rounds: int) -> int:
    """Number of times that `measure` reports progress."""
    return len(folders) + 2 + len(threads) * rounds


def _time(
    contenders: list[BenchmarkCase], pictures: Picture, threads: int, rounds: int, progress: Progress
) -> list[dict[str, Timing]]:
    """Timings of every contender by the name of the field; none for one that cannot be run."""
    functions = {
        f"{index} {what}": _in_turn(encode, pictures)
        for index, contender in enumerate(contenders)
        for what, encode in contender.prepare(threads).items()
    }
    found: list[dict[str, Timing]] = [{} for _ in contenders]
    for name, timing in interleaved(functions, rounds, progress).items():
        index, what = name.split()
        found[int(index)][what] = timing
    return found


def _in_turn(encode: Encode, pictures: Picture) -> Callable[[], object]:
    following = cycle(pictures)
    return lambda: encode(next(following))


def _share(contender: BenchmarkCase, timing: Timing, peak: Peak) -> float | None:
    rate = {"fp32": peak.fp32, "w8": peak.fp32, "int8": peak.int8, None: None}[contender.row.precision]
    if rate is None or contender.macs is None:
        return None
    return round(2 * contender.macs / (timing.median_ms * 1e6 * rate), 4)

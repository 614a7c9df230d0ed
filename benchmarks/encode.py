"""Encode time of each artefact beside the student and the teacher in torch, and decode time per face.

    python -m benchmarks.encode --model models/face64 BUNDLE [BUNDLE ...]     -> benchmarks/results/encode.json

Everything runs on one thread, in one process and interleaved: a round times every encoder once, in an order shuffled
anew, so that a slow moment of the machine falls on all of them alike. Batch size 1, picture in memory, tokens out.
"""

import random
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer

from benchmarks.record import write
from edge_stscq.codec import store
from edge_stscq.codec.decoder import Decoder
from edge_stscq.codec.encoder import EdgeEncoder
from edge_stscq.device import DeviceEncoder, open_bundle
from edge_stscq.evaluation.artefact import check_same_model
from edge_stscq.evaluation.report import progress_bar
from edge_stscq.evaluation.subject import Progress, quiet
from targets.check import open_encoder

BATCHES = (1, 2, 4, 8, 16, 32)


def interleaved(
    functions: Mapping[str, Callable[[], object]], rounds: int, progress: Progress = quiet
) -> dict[str, dict[str, float]]:
    """Time every function `rounds` times after two untimed calls: median, 10th and 90th percentile and least, in ms."""
    for function in functions.values():
        function()
        function()
    taken: dict[str, list[float]] = {name: [] for name in functions}
    order, shuffle = list(functions), random.Random(0).shuffle
    for _ in range(rounds):
        shuffle(order)
        for name in order:
            start = time.perf_counter()
            functions[name]()
            taken[name].append(1000 * (time.perf_counter() - start))
        progress(1)
    return {name: _summary(times) for name, times in taken.items()}


def _summary(times: list[float]) -> dict[str, float]:
    low, middle, high = np.quantile(times, [0.1, 0.5, 0.9])
    figures = {"median_ms": middle, "p10_ms": low, "p90_ms": high, "least_ms": min(times)}
    return {name: round(float(value), 3) for name, value in figures.items()}


def _one_thread() -> None:
    torch.set_num_threads(1)
    try:
        from executorch.extension.pybindings.portable_lib import _unsafe_reset_threadpool
    except ImportError:
        return
    _unsafe_reset_threadpool(1)


def _from_torch(encoder: EdgeEncoder, image: np.ndarray) -> Callable[[], object]:
    picture = torch.from_numpy(image[None].copy())

    @torch.inference_mode()
    def run() -> object:
        return encoder(picture)

    return run


def _from_bundle(encoder: DeviceEncoder, image: np.ndarray) -> Callable[[], object]:
    return lambda: encoder.run(image)


def main(
    bundles: Annotated[list[Path], typer.Argument(help="Bundles of one model.")],
    model: Annotated[Path, typer.Option(help="Model folder they were exported from.")] = Path("models/face64"),
    rounds: Annotated[int, typer.Option(min=5, help="Times that each encoder runs.")] = 100,
) -> None:
    """Write benchmarks/results/encode.json."""
    _one_thread()
    opened = [open_bundle(path) for path in bundles]
    for bundle in opened:
        check_same_model(bundle, model)
    image = opened[0].golden.images[0]
    student = store.load_student(model)
    encoders: dict[str, Callable[[], object]] = {
        "student fp32, torch": _from_torch(student, image),
        "teacher fp32, torch": _from_torch(store.load_teacher(model), image),
    }
    runtimes: dict[str, str] = {}
    for bundle in opened:
        artefact = open_encoder(bundle, threads=1)
        name = f"{bundle.manifest.target} {bundle.manifest.precision}"
        encoders[name], runtimes[name] = _from_bundle(artefact, image), artefact.runtime
    with progress_bar("rounds of encoding", rounds) as progress:
        encode = interleaved(encoders, rounds, progress)
    results: dict[str, Any] = {
        "threads": 1,
        "rounds": rounds,
        "model": student.config.name,
        "encode": {name: figures | {"runtime": runtimes.get(name, "torch")} for name, figures in encode.items()},
        "decode": _decode_times(store.load_decoder(model), max(5, rounds // 10)),
    }
    typer.echo(write("encode", results))


def _decode_times(decoder: Decoder, rounds: int) -> list[dict[str, Any]]:
    """Milliseconds per face of all layers, by batch size."""
    config = decoder.config

    def decode(size: int) -> Callable[[], object]:
        group = torch.randint(config.groups, (size,))
        tokens = torch.randint(config.entries, (size, config.tokens))
        return lambda: decoder.decode(group, tokens)

    with progress_bar("rounds of decoding", rounds) as progress:
        taken = interleaved({str(size): decode(size) for size in BATCHES}, rounds, progress)
    return [
        {"batch": size} | {f"{name}_per_face": round(value / size, 3) for name, value in taken[str(size)].items()}
        for size in BATCHES
    ]


if __name__ == "__main__":
    typer.run(main)

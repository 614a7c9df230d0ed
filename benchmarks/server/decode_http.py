"""Cost of HTTP: faces a second from the server, beside its decoder and PNG writer called directly.

    python -m benchmarks.server.decode_http [--model DIR]     -> benchmarks/results/decode_http.json

Direct calls run in batches of each size of `--batches`; the best is what the server is held against. Rounds of direct
calls and of requests alternate, in one run, on the same cores, which the load shares with the server. Each round asks
for faces that were not asked for before; `http_cached` asks once more for those of `http_first`. No face is refused for
being late: throughput is what is measured here, and `benchmarks.server.overload` measures the rest.

On a busy machine two processes get a larger share of a core than one, and rates by the clock flatter HTTP. The ratio
of processor time - of the direct call, and of server and load together - does not.
"""

import asyncio
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import torch
import typer

from benchmarks.record import write
from benchmarks.released import MODEL
from benchmarks.server.load import Server, closed_loop, fill, random_faces, serving
from edge_stscq._images import encode_image
from edge_stscq.bundle.model_folder import load_frame_codec
from edge_stscq.codec.execution_profile import PROFILES
from edge_stscq.codec.face_decoder import FaceDecoder
from edge_stscq.errors import EdgeError


def main(
    model: Annotated[Path, typer.Option(help="Model folder.")] = MODEL,
    rounds: Annotated[int, typer.Option(min=3, help="Rounds of each kind.")] = 8,
    faces: Annotated[int, typer.Option(min=64, help="Faces of a round.")] = 256,
    clients: Annotated[int, typer.Option(min=1, help="Connections that ask at the same time.")] = 32,
    batches: Annotated[list[int], typer.Option(min=1, help="Batch sizes of direct calls.")] = [4, 8, 16, 32],  # noqa: B006
) -> None:
    """Write benchmarks/results/decode_http.json."""
    torch.set_num_threads(1)
    decoders = {size: FaceDecoder(model, profile=replace(PROFILES["cpu"], max_batch=size)) for size in batches}
    codec, config = load_frame_codec(model), next(iter(decoders.values())).config
    coded = random_faces(config, rounds * faces)
    rates: dict[str, list[float]] = {}
    cpu: dict[str, list[float]] = {}

    def measure(name: str, work: Callable[[], object], server: Server | None = None) -> None:
        def used() -> float:
            return time.process_time() + (server.cpu_seconds() if server else 0)

        start, used_before = time.perf_counter(), used()
        work()
        rates.setdefault(name, []).append(faces / (time.perf_counter() - start))
        cpu.setdefault(name, []).append((used() - used_before) / faces * 1000)

    def ask(server: Server, numbers: range) -> None:
        answers = asyncio.run(closed_loop(server, numbers, clients))
        if any(answer.status != 200 for answer in answers):
            raise EdgeError(f"not every face was answered: {next(a for a in answers if a.status != 200)}")

    patience = ("--deadline", "60")
    with serving(model, "--cache-bytes", "0", *patience) as plain, serving(model, *patience) as caching:
        fill(plain, codec, coded)
        fill(caching, codec, coded)
        for number in range(rounds):
            numbers = range(number * faces, (number + 1) * faces)
            chosen = coded[numbers.start : numbers.stop]
            for size, direct in decoders.items():
                parts = [chosen[start : start + size] for start in range(0, faces, size)]
                measure(f"direct_{size}", lambda: [encode_image(one) for part in parts for one in direct.decode(part)])  # noqa: B023
            measure("http", lambda: ask(plain, numbers), plain)  # noqa: B023
            measure("http_first", lambda: ask(caching, numbers), caching)  # noqa: B023
            measure("http_cached", lambda: ask(caching, numbers), caching)  # noqa: B023
            typer.echo(f"round {number + 1}: " + ", ".join(f"{name} {seen[-1]:.1f}" for name, seen in rates.items()))
    best = min((name for name in cpu if name.startswith("direct")), key=lambda name: statistics.median(cpu[name]))

    def beside(seen: dict[str, list[float]], name: str) -> float:
        """Median over rounds of the ratio to the best direct call within a round."""
        return statistics.median(a / b for a, b in zip(seen[name], seen[best], strict=True))

    served = ("http", "http_first", "http_cached")
    results = {
        "model": model.name, "rounds": rounds, "faces_a_round": faces, "clients": clients, "best_direct": best,
        "faces_per_second": {name: round(statistics.median(seen), 1) for name, seen in rates.items()},
        "cpu_ms_per_face": {name: round(statistics.median(seen), 2) for name, seen in cpu.items()},
        "rate_beside_best_direct": {name: round(beside(rates, name), 3) for name in served},
        "rate_by_cpu_beside_best_direct": {name: round(1 / beside(cpu, name), 3) for name in served},
    }  # fmt: skip
    typer.echo(write("decode_http", results))


if __name__ == "__main__":
    typer.run(main)

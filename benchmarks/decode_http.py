"""What HTTP costs: faces a second from the server, beside its decoder and PNG writer called directly.

    python -m benchmarks.decode_http --model models/face64     -> benchmarks/results/decode_http.json

Direct calls run in batches of each size of `--batches`; the best is what the server is held against. Rounds of direct
calls and of requests alternate, in one run, on the same cores, which the load shares with the server. Each round asks
for faces that were not asked for before; `cached` asks for those of the round before once more.
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

from benchmarks.load import Server, closed_loop, fill, random_faces, serving
from benchmarks.record import write
from edge_stscq.errors import EdgeError
from edge_stscq.server.decode_service import DecodeService, Job
from edge_stscq.server.policy import POLICIES


def main(
    model: Annotated[Path, typer.Option(help="Model folder.")] = Path("models/face64"),
    rounds: Annotated[int, typer.Option(min=3, help="Rounds of each kind.")] = 8,
    faces: Annotated[int, typer.Option(min=64, help="Faces of a round.")] = 256,
    clients: Annotated[int, typer.Option(min=1, help="Connections that ask at the same time.")] = 32,
    batches: Annotated[list[int], typer.Option(min=1, help="Batch sizes of direct calls.")] = [4, 8, 16, 32],  # noqa: B006
) -> None:
    """Write benchmarks/results/decode_http.json."""
    torch.set_num_threads(1)
    services = {size: DecodeService(model, policy=replace(POLICIES["cpu"], max_batch=size)) for size in batches}
    service = next(iter(services.values()))
    coded = random_faces(service, rounds * faces)
    rates: dict[str, list[float]] = {}

    def measure(name: str, work: Callable[[], object]) -> None:
        start = time.perf_counter()
        work()
        rates.setdefault(name, []).append(faces / (time.perf_counter() - start))

    def ask(server: Server, numbers: range) -> None:
        answers = asyncio.run(closed_loop(server, numbers, clients))
        if any(answer.status != 200 for answer in answers):
            raise EdgeError(f"not every face was answered: {next(a for a in answers if a.status != 200)}")

    with serving(model, "--cache-bytes", "0") as plain, serving(model) as caching:
        fill(plain, service, coded)
        fill(caching, service, coded)
        for number in range(rounds):
            numbers = range(number * faces, (number + 1) * faces)
            jobs = [Job(face, 3) for face in coded[numbers.start : numbers.stop]]
            for size, direct in services.items():
                parts = [jobs[start : start + size] for start in range(0, faces, size)]
                measure(f"direct_{size}", lambda: [direct.paint_png(part) for part in parts])  # noqa: B023
            measure("http", lambda: ask(plain, numbers))  # noqa: B023
            measure("http_first", lambda: ask(caching, numbers))  # noqa: B023
            measure("http_cached", lambda: ask(caching, numbers))  # noqa: B023
            typer.echo(f"round {number + 1}: " + ", ".join(f"{name} {seen[-1]:.1f}" for name, seen in rates.items()))
    best = max((name for name in rates if name.startswith("direct")), key=lambda name: statistics.median(rates[name]))

    def beside(name: str) -> float:
        """Median over rounds of the ratio within a round."""
        return round(statistics.median(a / b for a, b in zip(rates[name], rates[best], strict=True)), 3)

    results = {
        "model": model.name, "rounds": rounds, "faces_a_round": faces, "clients": clients, "best_direct": best,
        "faces_per_second": {name: round(statistics.median(seen), 1) for name, seen in rates.items()},
        "beside_best_direct": {name: beside(name) for name in ("http", "http_first", "http_cached")},
    }  # fmt: skip
    typer.echo(write("decode_http", results))


if __name__ == "__main__":
    typer.run(main)

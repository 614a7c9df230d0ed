"""Ten times more than the server can do, for two minutes: who is served, how late, and what the rest are told.

    python -m benchmarks.server.overload [--model DIR]     -> benchmarks/results/overload.json

First as many clients as fill two batches ask one face after another: that is the capacity. Then requests come at
`--times` that rate, evenly, whatever becomes of the earlier ones; each takes an idle connection or opens one. The time
of an answer counts from the moment its request was due, so that a load that falls behind hides nothing. No face is
kept in the cache, and the load shares its cores with the server.
"""

import asyncio
import statistics
import time
from collections import Counter
from itertools import cycle, takewhile
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from benchmarks.record import write
from benchmarks.released import MODEL
from benchmarks.server.load import Answer, Connection, Server, closed_loop, connections, fill, random_faces, serving
from edge_stscq.bundle.model_folder import load_config, load_frame_codec
from edge_stscq.codec.execution_profile import PROFILES

FACES = 8192
CAPACITY_SECONDS = 20.0
CLIENTS = 16
"""Of the capacity: two batches, so that one waits while one runs."""
MAX_CONNECTIONS = 4096
"""A request that finds all of them waiting is not sent; there must be none such."""


def main(
    model: Annotated[Path, typer.Option(help="Model folder.")] = MODEL,
    seconds: Annotated[int, typer.Option(min=5, help="Length of the overload.")] = 120,
    times: Annotated[float, typer.Option(min=1, help="Load, as a multiple of the capacity.")] = 10,
    deadline: Annotated[float, typer.Option(min=0.1, help="The server's --deadline, in seconds.")] = 2,
) -> None:
    """Write benchmarks/results/overload.json."""
    max_batch = PROFILES["cpu"].max_batch
    with serving(model, "--cache-bytes", "0", "--deadline", str(deadline)) as server:
        fill(server, load_frame_codec(model), random_faces(load_config(model), FACES))
        capacity = _capacity(server)
        batch_seconds = max_batch / capacity
        typer.echo(f"capacity {capacity:.1f} faces/s, a batch of {max_batch} in {batch_seconds:.3f} s")
        answers, memory = asyncio.run(_overload(server, times * capacity, seconds))
        after = _capacity(server)
    results = _summary(answers, seconds, deadline, batch_seconds) | {
        "model": model.name, "seconds": seconds, "times": times, "capacity": round(capacity, 1),
        "capacity_afterwards": round(after, 1), "deadline_seconds": deadline, "resident_mib": memory,
        "batch": {"faces": max_batch, "seconds": round(batch_seconds, 4)},
    }  # fmt: skip
    typer.echo(write("overload", results))


def _capacity(server: Server) -> float:
    """Faces a second, asked by `CLIENTS` clients one after another."""
    start = time.perf_counter()
    numbers = takewhile(lambda _: time.perf_counter() - start < CAPACITY_SECONDS, cycle(range(FACES)))
    answers = asyncio.run(closed_loop(server, numbers, CLIENTS))
    return sum(answer.status == 200 for answer in answers) / (time.perf_counter() - start)


async def _overload(server: Server, rate: float, seconds: int) -> tuple[list[Answer], dict[str, float]]:
    """Every answer, and the server's memory: before, at most and at the end of each half, and a while after."""
    answers: list[Answer] = []
    memory = [server.resident_mib()]

    async def sample() -> None:
        while True:
            await asyncio.sleep(1)
            memory.append(server.resident_mib())

    async with connections(server, MAX_CONNECTIONS) as idle:

        async def ask(connection: Connection, number: int, due: float) -> None:
            answers.append(await connection.get_face(number % FACES, due))
            idle.append(connection)

        sampling, start = asyncio.create_task(sample()), time.perf_counter()
        async with asyncio.TaskGroup() as asking:
            for number in range(int(rate * seconds)):
                due = start + number / rate
                if (early := due - time.perf_counter()) > 0:
                    await asyncio.sleep(early)
                elif number % 32 == 0:
                    await asyncio.sleep(0)
                if idle:
                    asking.create_task(ask(idle.pop(), number, due))
                else:
                    answers.append(Answer(0, None, 0, "no connection"))
        sampling.cancel()
    middle = len(memory) // 2
    await asyncio.sleep(5)
    return answers, {
        "before": round(memory[0], 1), "most_in_first_half": round(max(memory[:middle]), 1),
        "most_in_second_half": round(max(memory[middle:]), 1), "after": round(server.resident_mib(), 1),
    }  # fmt: skip


def _summary(answers: list[Answer], seconds: int, deadline: float, batch_seconds: float) -> dict[str, Any]:
    refused = [answer for answer in answers if answer.status in (429, 503)]
    accepted = [answer.seconds for answer in answers if answer.status == 200]
    told = [answer.retry_after for answer in refused if answer.retry_after is not None]
    limit = deadline + batch_seconds
    p99 = float(np.percentile(accepted, 99))
    return {
        "offered": len(answers),
        "answers": dict(sorted(Counter(str(answer.status or answer.problem) for answer in answers).items())),
        "accepted_per_second": round(len(accepted) / seconds, 1),
        "accepted_seconds": {f"p{at}": round(float(np.percentile(accepted, at)), 3) for at in (50, 90, 99, 100)},
        "limit_seconds": round(limit, 3),
        "p99_under_limit": p99 < limit,
        "refused_seconds": {f"p{at}": round(_percentile(refused, at), 3) for at in (50, 99, 100)},
        "refused_without_retry_after": len(refused) - len(told),
        "retry_after_seconds": {"least": min(told, default=0), "median": statistics.median(told or [0]),
                                "most": max(told, default=0)},
    }  # fmt: skip


def _percentile(answers: list[Answer], at: int) -> float:
    return float(np.percentile([answer.seconds for answer in answers], at)) if answers else 0.0


if __name__ == "__main__":
    typer.run(main)

"""Time and bytes of each coder of a model, on the tokens of LFW's pairs.

    EDGE_STSCQ_DATA=DIR python -m benchmarks.codec.entropy_coder [--model DIR] --bundle BUNDLE --cache DIR
                                                                  -> benchmarks/results/entropy-coder-MODEL.json

On one thread. A server reads payloads side by side, 256 of them here; a device writes one face at a time, with all of
its layers. Medians of rounds, and the longest ninth tenth of single faces.
"""

import os
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from benchmarks.codec.entropy_tokens import tokens
from benchmarks.record import write
from benchmarks.released import MODEL
from edge_stscq.codec.model import Codec
from edge_stscq.evaluation.artifact import coded_by
from edge_stscq.stream import CodedFace, EntropyModel
from edge_stscq.stream.frame import coder_id_of

AT_ONCE = 256
FACES = 1024


def main(
    data: Annotated[Path, typer.Option(envvar="EDGE_STSCQ_DATA", help="Folder with lfw/.")],
    bundle: Annotated[Path, typer.Option(help="Bundle that encodes the crops.")],
    cache: Annotated[Path, typer.Option(help="Folder that keeps tokens.")],
    model: Annotated[Path, typer.Option(help="Model folder.")] = MODEL,
    rounds: Annotated[int, typer.Option(min=3, help="Times that each of it is done.")] = 15,
) -> None:
    """Write benchmarks/results/entropy-coder-NAME.json."""
    if os.environ.get("OMP_NUM_THREADS") != "1":
        raise typer.BadParameter("set OMP_NUM_THREADS=1: what is timed is one thread")
    codec = coded_by(Codec.load(model), bundle)
    faces = list(tokens(codec, data / "lfw" / "lfw-crops.tar", cache)[:FACES])
    rows = []
    for name in ("static", "packed", "learned"):
        coder = codec.frames.coders[coder_id_of(name, codec.learned)]
        rows.append({"coder": name} | measure(coder, faces, rounds))
        typer.echo(rows[-1])
    content = {"model": codec.config.name, "faces": len(faces), "at_once": AT_ONCE, "rounds": rounds, "coders": rows}
    typer.echo(write(f"entropy-coder-{codec.config.name}", content))


def measure(coder: EntropyModel, faces: Sequence[CodedFace], rounds: int) -> dict[str, Any]:
    """Milliseconds a face, and bytes."""
    payloads, layers = coder.encode_many(faces), faces[0].layers
    parts = [payloads[start : start + AT_ONCE] for start in range(0, len(payloads), AT_ONCE)]
    assert [face for part in parts for face in coder.decode_many(part, layers)] == list(faces)
    many = [seconds(coder.decode_many, part, layers) / len(part) for _ in range(rounds) for part in parts]
    wrote = [seconds(coder.encode, face) for _ in range(rounds) for face in faces[:AT_ONCE]]
    read = [seconds(coder.decode, payload, layers) for _ in range(rounds) for payload in payloads[:AT_ONCE]]
    return {
        "bytes": statistics.mean(map(len, payloads)),
        "read_many_ms": 1000 * statistics.median(many),
        "read_one_ms": 1000 * statistics.median(read),
        "write_one_ms": 1000 * statistics.median(wrote),
        "write_one_p90_ms": 1000 * float(np.quantile(wrote, 0.9)),
    }


def seconds(work: Callable[..., object], *given: object) -> float:
    """Time of one call."""
    begun = time.perf_counter()
    work(*given)
    return time.perf_counter() - begun


if __name__ == "__main__":
    typer.run(main)

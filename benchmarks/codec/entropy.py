"""Bits that a learned entropy model would save: cross entropy of LFW's tokens by models fitted on training crops.

    EDGE_STSCQ_DATA=DIR python -m benchmarks.codec.entropy --model models/face64 --bundle BUNDLE --cache DIR
                                                                        -> benchmarks/results/entropy-face64.json

Every model sees the group and the lower layers; one row also sees the tokens before in the same layer. All begin as the
model's own tables, are fitted on training crops, stop where held-out training crops are shortest, and are then judged
once on LFW. The last row predicts mean and scale of the next layer's vectors instead, and counts what quantizing the
rest would save at equal distortion.
"""

import time
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from torch import Tensor

from benchmarks.codec.entropy_models import Counts, Gaussian, LinearSoftmax, Tokens, TokenTransformer, in_int8
from benchmarks.codec.entropy_tokens import tokens
from benchmarks.codec.entropy_training import evaluate, fit, training_tokens
from benchmarks.record import write
from edge_stscq.codec.model import Codec
from edge_stscq.evaluation.artifact import coded_by
from edge_stscq.stream.packed import Packed


def main(
    data: Annotated[Path, typer.Option(envvar="EDGE_STSCQ_DATA", help="Folder with lfw/ and faces/.")],
    bundle: Annotated[Path, typer.Option(help="Bundle that encodes the crops.")],
    cache: Annotated[Path, typer.Option(help="Folder that keeps tokens.")],
    model: Annotated[Path, typer.Option(help="Model folder.")] = Path("models/face64"),
    portraits: Annotated[int, typer.Option(min=0, max=8, help="Archives of `faces/train-0N.tar` to fit on.")] = 1,
    epochs: Annotated[int, typer.Option(min=1, help="At most, of each model.")] = 12,
) -> None:
    """Write benchmarks/results/entropy-NAME.json."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    codec = coded_by(Codec.load(model), bundle)
    assert codec.tables is not None
    fitted, kept_out = training_tokens(codec, data / "faces", cache, portraits)
    judged = tokens(codec, data / "lfw" / "lfw-crops.tar", cache)
    books, ends = torch.from_numpy(codec.books.copy()), codec.config.layer_ends
    train, held, test = (Tokens.of(part, books) for part in (fitted[~kept_out], fitted[kept_out], judged))
    own = torch.from_numpy(codec.tables.frequencies.astype(np.float32) / 65536).log2()
    group = torch.from_numpy(codec.tables.group_frequencies.astype(np.float32) / 65536).log2()

    def row(name: str, bits: Tensor, parameters: int, seconds: float = 0.0) -> dict[str, Any]:
        first = -group[test.group]
        each = [bits[:, start:end].sum(1) for start, end in zip((0, *ends), ends, strict=False)]
        prefixes = [first + bits[:, :end].sum(1) for end in ends]
        print(name, [round(float(part.mean()), 2) for part in each], f"{seconds:.0f} s", flush=True)
        return {
            "model": name, "parameters": parameters, "fit_seconds": round(seconds, 1),
            "bits_by_layer": [float(part.mean()) for part in each],
            "bytes_by_prefix": [float((part / 8).ceil().mean()) for part in prefixes],
        }  # fmt: skip

    base = base_bits(own, test)
    results = [row("its own tables", base, own.numel())]
    packed = Packed(codec.tables)
    short = [np.array([len(packed.encode(face)) for face in judged.truncate(n + 1, ends)]) for n in range(len(ends))]
    results.append(
        results[0]
        | {"model": "its own tables, packed where shorter", "bytes_by_prefix": [float(one.mean()) for one in short]}
    )
    counts = Counts.fit(train, books.shape[2])
    results.append(row("tables of counts, group only", counts.static(test), own.numel()))
    for cells in (2, 8):
        started = time.perf_counter()
        bits, parameters = Counts.given_lower(train, test, own, ends, cells)
        name = f"tables of counts, {cells} cells of the lower layers"
        results.append(row(name, bits, parameters, time.perf_counter() - started))
    for name, network in (
        ("linear softmax of codewords", LinearSoftmax(own, books, ends)),
        ("the same, also given the tokens before in the layer", LinearSoftmax(own, books, ends, within=True)),
    ):
        started = time.perf_counter()
        fit(network, train, held, epochs)
        size = sum(p.numel() for p in network.parameters())
        results.append(row(name, evaluate(network, test), size, time.perf_counter() - started))
    started = time.perf_counter()
    gaussian = [Gaussian(own, books, ends, conditional=conditional) for conditional in (False, True)]
    for predictor in gaussian:
        fit(predictor, train, held, epochs)
    saved = evaluate(gaussian[0], test) - evaluate(gaussian[1], test)
    size, spent = sum(p.numel() for p in gaussian[1].parameters()), time.perf_counter() - started
    results.append(row("mean and scale predicted, the rest quantized", base - saved, size, spent))
    content = {
        "encoder": codec.name, "model": codec.config.name, "fitted_on": len(fitted), "judged_on": len(judged),
        "layer_ends": list(ends), "epochs": epochs, "models": results,
    }  # fmt: skip
    write(f"entropy-{codec.config.name}", content)  # the slowest comes last; what there is is kept before it
    started = time.perf_counter()
    transformer = TokenTransformer(own, books, ends)
    fit(transformer, train, held, epochs)
    size, spent = sum(p.numel() for p in transformer.parameters()), time.perf_counter() - started
    results.append(row("transformer, float32", evaluate(transformer, test), size, spent))
    write(f"entropy-{codec.config.name}", content)
    results.append(row("transformer, int8", evaluate(in_int8(transformer), test), size))
    typer.echo(write(f"entropy-{codec.config.name}", content))


def base_bits(logs: Tensor, faces: Tokens) -> Tensor:
    """Bits `[N, T]` of each token by one table a group and position, in log2 `[M, T, K]`."""
    return -logs[faces.group].gather(2, faces.tokens[..., None])[..., 0]


if __name__ == "__main__":
    typer.run(main)

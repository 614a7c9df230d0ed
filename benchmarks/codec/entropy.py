"""Bits that a learned entropy model would save: cross entropy of LFW's tokens by models fitted on training crops.

    EDGE_STSCQ_DATA=DIR python -m benchmarks.codec.entropy [--model DIR] --bundle BUNDLE --cache DIR
                                                                        -> benchmarks/results/entropy-MODEL.json

Every model sees the group and the lower layers; one row also sees the tokens before in the same layer. All begin as the
model's own tables, are fitted on training crops, stop where held-out training crops are shortest, and are then judged
once on LFW. The rows of the learned coder are the model's `learned.safetensors`, which `benchmarks.codec.entropy_fit`
made. One row predicts mean and scale of the next layer's vectors instead, and counts what quantizing the rest would
save at equal distortion.
"""

import time
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.codec.entropy_models import Counts, Gaussian, LinearSoftmax, Tokens, TokenTransformer, in_int8
from benchmarks.codec.entropy_tokens import tokens
from benchmarks.codec.entropy_training import evaluate, fit, training_tokens
from benchmarks.record import write
from benchmarks.released import MODEL
from edge_stscq.codec.model import Codec
from edge_stscq.evaluation.artifact import coded_by
from edge_stscq.stream import Codes, EntropyModel, Tables
from edge_stscq.stream.learned import Learned
from edge_stscq.stream.learned.frequencies import Predictor
from edge_stscq.stream.packed import Packed


def main(
    data: Annotated[Path, typer.Option(envvar="EDGE_STSCQ_DATA", help="Folder with lfw/ and faces/.")],
    bundle: Annotated[Path, typer.Option(help="Bundle that encodes the crops.")],
    cache: Annotated[Path, typer.Option(help="Folder that keeps tokens.")],
    model: Annotated[Path, typer.Option(help="Model folder.")] = MODEL,
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
    results.append(results[0] | real_payloads("its own tables, packed where shorter", Packed(codec.tables), judged))
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
    if codec.learned is not None:
        bits = torch.from_numpy(integer_bits(codec.learned, codec.tables, judged))
        coder = row("learned coder, int8", bits, sum(array.size for array in codec.learned.weights.arrays().values()))
        results.append(coder)
        results.append(coder | real_payloads("learned coder, packed where shorter", Packed(codec.learned), judged))
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


def real_payloads(name: str, coder: EntropyModel, faces: Codes) -> dict[str, Any]:
    """Mean bytes of payloads of 1, 2, ... layers, each of them made."""
    prefixes = [list(faces.truncate(layers + 1, coder.layer_ends)) for layers in range(len(coder.layer_ends))]
    sizes = [np.array([len(payload) for payload in coder.encode_many(prefix)]) for prefix in prefixes]
    return {"model": name, "bytes_by_prefix": [float(each.mean()) for each in sizes]}


def integer_bits(learned: Learned, tables: Tables, faces: Codes) -> NDArray[np.float32]:
    """Bits `[N, T]` of each token by the frequencies that the coder has."""
    predictor, bits, start = Predictor(learned.weights, tables.frequencies), np.empty(faces.tokens.shape, np.float32), 0
    for layer, end in enumerate(tables.layer_ends):
        for rows in (part for group in range(tables.shape[0]) for part in _parts(np.flatnonzero(faces.group == group))):
            starts = predictor.starts(layer, int(faces.group[rows[0]]), faces.tokens[rows])
            symbols = faces.tokens[rows, start:end].T[..., None].astype(np.intp)
            low, high = (np.take_along_axis(starts, symbols + step, -1)[..., 0].T.astype(float) for step in (0, 1))
            bits[rows, start:end] = 16 - np.log2(high - low)
        start = end
    return bits


def _parts(rows: NDArray[np.intp]) -> list[NDArray[np.intp]]:
    return [rows[start : start + 256] for start in range(0, len(rows), 256)]


def base_bits(logs: Tensor, faces: Tokens) -> Tensor:
    """Bits `[N, T]` of each token by one table a group and position, in log2 `[M, T, K]`."""
    return -logs[faces.group].gather(2, faces.tokens[..., None])[..., 0]


if __name__ == "__main__":
    typer.run(main)

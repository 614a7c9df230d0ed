"""The fit of the learned coder: what is rounded to eight bits says nearly what was fitted."""

import numpy as np
import torch

from benchmarks.codec.entropy import integer_bits
from benchmarks.codec.entropy_fit import RoundedSoftmax
from benchmarks.codec.entropy_models import Tokens
from benchmarks.codec.entropy_training import evaluate
from edge_stscq.stream import Codes, Tables
from edge_stscq.stream.learned import Learned

ENDS = (2, 4, 6)


def test_rounded_weights_code_as_the_network_does() -> None:
    draw = np.random.default_rng(0)
    books = torch.from_numpy(draw.standard_normal((2, 6, 32, 4)).astype(np.float32) * [1, 3, 0, 0.1]).float()
    tables = Tables.from_counts(draw.integers(1, 90, (2, 6, 32)), [1, 2], ENDS)
    own = torch.from_numpy(tables.frequencies.astype(np.float32) / 65536).log2()
    network = RoundedSoftmax(own, books, ENDS)
    with torch.no_grad():
        network.weight.copy_(torch.from_numpy(draw.normal(0, 0.05, network.weight.shape)))
        network.bias.copy_(torch.from_numpy(draw.normal(0, 0.2, network.bias.shape)))
    codes = Codes(draw.integers(2, size=300), draw.integers(32, size=(300, 6)), 3)
    fitted = evaluate(network, Tokens.of(codes, books)).numpy()
    static = -np.log2(tables.frequencies[codes.group[:, None], np.arange(6), codes.tokens] / 65536)
    coded = integer_bits(Learned(network.rounded(ENDS), tables), tables, codes)
    assert np.abs(fitted - static).mean() > 0.2
    assert np.abs(fitted - coded).mean() < 0.02
    assert np.abs(fitted.mean() - coded.mean()) < 0.005

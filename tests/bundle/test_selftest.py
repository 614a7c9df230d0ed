"""Replaying golden vectors."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from edge_stscq.bundle import open_bundle, selftest
from edge_stscq.bundle.manifest import GOLDEN
from edge_stscq.device import load_encoder
from edge_stscq.stream import CodedFace, Tables
from tests.support.bundles.altered_bundle import as_format, change_golden, change_two_tokens, reseal


@pytest.fixture
def bundle_that_differs(sums_bundle: Path) -> Path:
    return change_golden(sums_bundle, change_two_tokens)


def test_the_same_answers_pass(sums_bundle: Path) -> None:
    result = selftest(open_bundle(sums_bundle), load_encoder(sums_bundle))
    assert result.passed
    assert (result.vectors, result.groups_equal, result.tokens_equal, result.tokens, result.ties) == (4, 4, 64, 64, 0)
    assert (result.payloads_equal, result.payloads) == (12, 12)


def test_the_first_difference_is_named(bundle_that_differs: Path) -> None:
    bundle = open_bundle(bundle_that_differs)
    result = selftest(bundle, load_encoder(bundle, verify=False))
    expected = int(bundle.golden.tokens[2, 5])
    assert not result.passed
    assert (result.groups_equal, result.tokens_equal) == (4, 62)
    assert str(result.first) == f"tokens[2, 5] (spatial, middle layer) is {expected ^ 1}, expected {expected}"


def test_the_other_answer_is_right_at_a_tie_and_a_third_is_not(sums_bundle: Path) -> None:
    def change(golden: dict[str, np.ndarray]) -> None:
        golden["other_tokens"] = golden["tokens"].copy()
        golden["other_groups"] = golden["groups"].copy()
        golden["tokens"][[2, 3], [5, 0]] ^= 1  # the artefact gives the other one of these
        golden["tokens"][3, 1] ^= 1
        golden["other_tokens"][3, 1] ^= 2  # and neither of these

    bundle = open_bundle(change_golden(sums_bundle, change))
    result = selftest(bundle, load_encoder(bundle, verify=False))
    assert (result.tokens_equal, result.ties, result.passed) == (61, 2, False)
    assert str(result.first).startswith("tokens[3, 1] (identity, basic layer)")


def test_tokens_of_the_other_group_are_not_judged(sums_bundle: Path) -> None:
    def change(golden: dict[str, np.ndarray]) -> None:
        golden["other_groups"] = golden["groups"].copy()
        golden["groups"][1] = (golden["groups"][1] + 1) % 3
        golden["tokens"][1] ^= 1

    bundle = open_bundle(change_golden(sums_bundle, change))
    result = selftest(bundle, load_encoder(bundle, verify=False))
    assert result.passed
    assert (result.groups_equal, result.tokens_equal, result.ties) == (3, 48, 16)


def test_groups_come_before_tokens(bundle_that_differs: Path) -> None:
    bundle = open_bundle(bundle_that_differs)
    encoder = load_encoder(bundle, verify=False)

    class OtherGroup:
        def run(self, image: np.ndarray) -> tuple[int, np.ndarray]:
            group, tokens = encoder.run(image)
            return (group + 1) % 3, tokens

    result = selftest(bundle, OtherGroup())
    assert result.first is not None
    assert (result.first.tensor, result.first.index, result.groups_equal) == ("groups", (0,), 0)


def test_a_payload_that_the_coder_does_not_make_is_named(sums_bundle: Path) -> None:
    tensors = safetensors.numpy.load_file(sums_bundle / GOLDEN)
    start = tensors["payload_lengths"].flatten()[:7].sum()  # of the third picture, cut after two layers
    tensors["payloads"][start] ^= 1
    safetensors.numpy.save_file(tensors, sums_bundle / GOLDEN)
    bundle = open_bundle(reseal(sums_bundle))
    result = selftest(bundle, load_encoder(bundle, verify=False))
    assert (result.passed, result.tokens_equal, result.payloads_equal) == (False, 64, 11)
    assert bundle.golden.payloads is not None
    right = bundle.golden.payloads[2][1].hex()
    found = f"{int(right[:2], 16) ^ 1:02x}{right[2:]}"
    assert str(result.first) == f"payloads[2, 1] (up to the middle layer) is {found}, expected {right}"


def test_a_payload_that_is_not_read_back_is_named(sums_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = open_bundle(sums_bundle)
    decode = Tables.decode

    def misread(tables: Tables, payload: bytes, layers: int) -> CodedFace:
        face = decode(tables, payload, layers)
        return replace(face, group=(face.group + 1) % 3)

    monkeypatch.setattr(Tables, "decode", misread)
    result = selftest(bundle, load_encoder(bundle, verify=False))
    assert (result.passed, result.payloads_equal) == (False, 0)
    assert str(result.first).startswith("payloads[0, 0] (up to the basic layer) is read as another face, expected ")


def test_a_bundle_of_an_earlier_format_has_no_payloads(sums_bundle: Path) -> None:
    bundle = open_bundle(as_format(sums_bundle, 2))
    result = selftest(bundle, load_encoder(bundle, verify=False))
    assert (result.passed, result.payloads_equal, result.payloads) == (True, 0, 0)


def test_some_pictures_are_replayed_alone(bundle_that_differs: Path) -> None:
    """The first and the last are always among them, and so is the coder."""
    bundle = open_bundle(bundle_that_differs)
    encoder = load_encoder(bundle, verify=False)
    result = selftest(bundle, encoder, bundle.golden.spread(2))
    assert (result.vectors, result.tokens_equal, result.payloads) == (2, 31, 6)
    assert str(result.first).startswith("tokens[1, 0]")
    assert selftest(bundle, encoder, bundle.golden.spread(1)).passed
    assert bundle.golden.spread(99).tokens.tolist() == bundle.golden.tokens.tolist()

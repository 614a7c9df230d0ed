"""Replaying golden vectors, in the library and as a command."""

import json
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import safetensors.numpy
import typer
from typer.testing import CliRunner

from edge_stscq.bundle import open_bundle, selftest
from edge_stscq.bundle.manifest import GOLDEN, Manifest, sha256_files
from edge_stscq.cli.selftest import selftest as command
from edge_stscq.device import load_encoder
from edge_stscq.errors import EXIT_CHECK_FAILED, BundleError
from tests.support.sums_bundle import answer

app = typer.Typer()
app.command()(command)


def change_golden(folder, change):
    """Rewrite the golden vectors by `change`, which is given the tensors, and list the file as it is then."""
    golden = safetensors.numpy.load_file(folder / GOLDEN)
    change(golden)
    safetensors.numpy.save_file(golden, folder / GOLDEN)
    manifest = Manifest.load(folder)
    Manifest.model_validate(manifest.model_dump() | {"files": sha256_files(folder)}).save(folder)
    return folder


@pytest.fixture
def bundle_that_differs(sums_bundle):
    """A bundle whose golden tokens are not what the artefact answers, in two places."""

    def change(golden):
        golden["tokens"][[2, 3], [5, 0]] ^= 1

    return change_golden(sums_bundle, change)


def test_the_same_answers_pass(sums_bundle):
    result = selftest(open_bundle(sums_bundle), load_encoder(sums_bundle))
    assert result.passed
    assert (result.vectors, result.groups_equal, result.tokens_equal, result.tokens, result.ties) == (4, 4, 64, 64, 0)


def test_the_first_difference_is_named(bundle_that_differs):
    bundle = open_bundle(bundle_that_differs)
    result = selftest(bundle, load_encoder(bundle))
    expected = int(bundle.golden.tokens[2, 5])
    assert not result.passed
    assert (result.groups_equal, result.tokens_equal) == (4, 62)
    assert str(result.first) == f"tokens[2, 5] (spatial, middle layer) is {expected ^ 1}, expected {expected}"


def test_the_other_answer_is_right_at_a_tie_and_a_third_is_not(sums_bundle):
    def change(golden):
        golden["other_tokens"] = golden["tokens"].copy()
        golden["other_groups"] = golden["groups"].copy()
        golden["tokens"][[2, 3], [5, 0]] ^= 1  # the artefact gives the other one of these
        golden["tokens"][3, 1] ^= 1
        golden["other_tokens"][3, 1] ^= 2  # and neither of these

    bundle = open_bundle(change_golden(sums_bundle, change))
    result = selftest(bundle, load_encoder(bundle))
    assert (result.tokens_equal, result.ties, result.passed) == (61, 2, False)
    assert str(result.first).startswith("tokens[3, 1] (identity, basic layer)")


def test_tokens_of_the_other_group_are_not_judged(sums_bundle):
    def change(golden):
        golden["other_groups"] = golden["groups"].copy()
        golden["groups"][1] = (golden["groups"][1] + 1) % 3
        golden["tokens"][1] ^= 1

    bundle = open_bundle(change_golden(sums_bundle, change))
    result = selftest(bundle, load_encoder(bundle))
    assert result.passed
    assert (result.groups_equal, result.tokens_equal, result.ties) == (3, 48, 16)


def test_groups_come_before_tokens(bundle_that_differs):
    bundle = open_bundle(bundle_that_differs)
    encoder = load_encoder(bundle)

    class OtherGroup:
        def run(self, image):
            group, tokens = encoder.run(image)
            return (group + 1) % 3, tokens

    result = selftest(bundle, OtherGroup())
    assert (result.first.tensor, result.first.index, result.groups_equal) == ("groups", (0,), 0)


def test_command_passes(sums_bundle):
    done = CliRunner().invoke(app, [str(sums_bundle)])
    assert done.exit_code == 0
    assert "64 of 64 tokens" in done.output
    assert "4 golden pictures reach" in done.output
    assert done.output.rstrip().endswith("passed")


def test_command_fails_with_its_exit_code_and_says_where(bundle_that_differs):
    done = CliRunner().invoke(app, [str(bundle_that_differs), "--json"])
    assert done.exit_code == EXIT_CHECK_FAILED
    report = json.loads(done.output)
    assert report["passed"] is False
    assert report["first_difference"].startswith("tokens[2, 5]")


def test_command_refuses_an_altered_bundle(sums_bundle):
    data = bytearray((sums_bundle / "encoder.onnx").read_bytes())
    data[100] ^= 1
    (sums_bundle / "encoder.onnx").write_bytes(data)
    assert isinstance(CliRunner().invoke(app, [str(sums_bundle)]).exception, BundleError)


def test_core_ml_is_replayed_by_the_reference_executor(make_sums_bundle, monkeypatch):
    """The reference executor itself is tested with the targets; here only that the command uses it off macOS."""

    class Program:
        def run(self, image):
            group, tokens = answer(image[0])
            return group, np.array(tokens, np.int32)

    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setitem(sys.modules, "targets.coreml.reference", SimpleNamespace(load=lambda path: Program()))
    done = CliRunner().invoke(app, [str(make_sums_bundle(target="coreml"))])
    assert done.exit_code == 0, done.output
    assert "reference executor" in done.output

"""`edge-stscq selftest` on bundles that answer as at export, differently, or were altered."""

import json
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from edge_stscq.cli.selftest import selftest as command
from edge_stscq.errors import EXIT_CHECK_FAILED, BundleError
from tests.support.bundles.altered_bundle import as_format, change_golden, change_two_tokens
from tests.support.bundles.sums_bundle import answer

app = typer.Typer()
app.command()(command)


@pytest.fixture
def bundle_that_differs(sums_bundle):
    return change_golden(sums_bundle, change_two_tokens)


def test_command_passes(sums_bundle):
    done = CliRunner().invoke(app, [str(sums_bundle)])
    assert done.exit_code == 0
    assert "64 of 64 tokens" in done.output
    assert "4 golden pictures reach" in done.output
    assert "12 of 12 payloads coded and read back as at export" in done.output
    assert done.output.rstrip().endswith("passed")


def test_command_says_that_an_earlier_format_has_no_payloads(sums_bundle):
    done = CliRunner().invoke(app, [str(as_format(sums_bundle, 2))])
    assert done.exit_code == 0
    assert "no payloads to replay: the bundle is of a format before 3\npassed" in done.output


def test_command_fails_with_its_exit_code_and_says_where(bundle_that_differs):
    done = CliRunner().invoke(app, [str(bundle_that_differs), "--json"])
    assert done.exit_code == EXIT_CHECK_FAILED
    report = json.loads(done.output)
    assert report["passed"] is False
    assert report["first_difference"].startswith("tokens[2, 5]")
    assert (report["payloads_equal"], report["payloads"]) == (12, 12)


def test_command_refuses_an_altered_bundle(sums_bundle):
    data = bytearray((sums_bundle / "encoder.onnx").read_bytes())
    data[100] ^= 1
    (sums_bundle / "encoder.onnx").write_bytes(data)
    refused = CliRunner().invoke(app, [str(sums_bundle)]).exception
    assert isinstance(refused, BundleError)
    assert "encoder.onnx was altered" in str(refused)


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

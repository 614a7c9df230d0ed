"""The same sums as a .pte: ExecuTorch's Python runtime behind the same methods."""

import sys
import tomllib
import warnings
from pathlib import Path

import numpy as np
import pytest

from edge_stscq.bundle import open_bundle, selftest
from edge_stscq.bundle.manifest import Manifest, RuntimeRange, sha256_files
from edge_stscq.device import load_encoder
from edge_stscq.errors import BundleError, EdgeError
from tests.support.bundles.sums_bundle import CONFIG, answer
from tests.support.installed import need_module

RANGE = RuntimeRange(package="executorch", minimum="1.5", maximum_exclusive="1.7")


@pytest.fixture(scope="module")
def sums_pte():
    need_module("executorch", "pip install 'edge-stscq[executorch]'")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own
        return export_sums()


def export_sums() -> bytes:
    import torch
    from executorch.exir import to_edge

    class Sums(torch.nn.Module):
        def forward(self, image):
            sums = image.to(torch.int32).reshape(1, CONFIG.tokens, -1).sum(dim=2).to(torch.int32)
            group = torch.remainder(sums.sum(dim=1), CONFIG.groups)
            return group.to(torch.int32), torch.remainder(sums, CONFIG.entries)

    program = torch.export.export(Sums(), (torch.zeros(1, 128, 128, 3, dtype=torch.uint8),))
    return bytes(to_edge(program).to_executorch().buffer)


@pytest.fixture
def pte_bundle(sums_bundle, sums_pte):
    (sums_bundle / "encoder.onnx").unlink()
    (sums_bundle / "encoder.pte").write_bytes(sums_pte)
    fields = {"target": "executorch", "artefact": "encoder.pte", "runtime": RANGE, "files": sha256_files(sums_bundle)}
    Manifest.model_validate(Manifest.load(sums_bundle).model_dump() | fields).save(sums_bundle)
    return sums_bundle


def test_a_crop_has_the_same_answer_as_elsewhere(pte_bundle, crop):
    encoder = load_encoder(pte_bundle)
    assert encoder.runtime.startswith("executorch 1.")
    group, tokens = encoder.run(crop)
    assert (group, tokens.tolist()) == answer(crop)
    encoder.run(np.zeros_like(crop))
    assert (group, tokens.tolist()) == answer(crop), "answers do not live in the runtime's memory"
    assert selftest(open_bundle(pte_bundle), encoder).passed


def test_a_file_that_is_no_program_is_refused(pte_bundle):
    (pte_bundle / "encoder.pte").write_bytes(b"no program" * 100)
    fields = {"files": sha256_files(pte_bundle)}
    Manifest.model_validate(Manifest.load(pte_bundle).model_dump() | fields).save(pte_bundle)
    with pytest.raises(BundleError, match=r"encoder.pte does not load"):
        load_encoder(pte_bundle)


def test_arm_linux_is_told_of_the_ways_without_cuda(pte_bundle, monkeypatch):
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setitem(sys.modules, "executorch.extension.pybindings._C", None)
    with pytest.raises(EdgeError, match="use the ONNX bundle here, or ExecuTorch's C"):
        load_encoder(pte_bundle)


def test_no_extra_brings_cuda_on_arm_linux():
    from packaging.requirements import Requirement

    project = tomllib.loads((Path(__file__).resolve().parents[3] / "pyproject.toml").read_text())["project"]
    arm = {"sys_platform": "linux", "platform_machine": "aarch64"}
    words = [word for extra in project["optional-dependencies"].values() for word in extra] + project["dependencies"]
    wanted = [each for each in map(Requirement, words) if each.marker is None or each.marker.evaluate(arm)]
    torches = {str(each.specifier) for each in wanted if each.name == "torch"}
    assert torches == {"==2.10.0"}, "later wheels for Arm Linux are built for CUDA"
    assert not [each.name for each in wanted if each.name.startswith(("nvidia", "cuda", "triton"))]

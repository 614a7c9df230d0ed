"""`edge-stscq doctor` on machines that have more or less installed."""

import json
import subprocess
import sys
from importlib.machinery import ModuleSpec

import pytest
import typer
from typer.testing import CliRunner

from edge_stscq._released import BUNDLE
from edge_stscq.cli import doctor as module
from edge_stscq.cli.doctor import doctor
from edge_stscq.errors import EXIT_CHECK_FAILED
from targets import TARGETS

app = typer.Typer()
app.command()(doctor)
EVERYTHING = {
    "numpy": "2.4", "opencv-python-headless": "5.0", "onnxruntime": "1.31.1", "torch": "2.13.0", "torchao": "0.18.0",
    "executorch": "1.5.1", "onnx": "1.23", "onnxscript": "0.7", "coremltools": "9.0",
}  # fmt: skip
CAMERA = ("numpy", "opencv-python-headless", "onnxruntime")


def package(name, folder):
    """Module spec of a package whose files are in `folder`, as Python finds it."""
    spec = ModuleSpec(name, None, is_package=True)
    spec.submodule_search_locations = [str(folder)]
    return spec


@pytest.fixture
def on(monkeypatch):
    """`on("linux", numpy="2.4", ...)` runs the command on a machine with these packages: exit code, JSON and text."""

    def run(system="linux", **versions):
        installed = {name.replace("_", "-"): version for name, version in versions.items()}
        monkeypatch.setattr(sys, "platform", system)
        monkeypatch.setattr(module, "_version", installed.get)
        done = [CliRunner().invoke(app, words, catch_exceptions=False) for words in (["--json"], [])]
        assert done[0].exit_code == done[1].exit_code
        report = json.loads(done[0].stdout)
        return done[0].exit_code, {row["target"]: row for row in report["targets"]}, done[1].stdout

    return run


def test_with_everything_only_core_ml_depends_on_the_system(on):
    code, targets, text = on(**EVERYTHING)
    assert code == 0
    assert {name: (row["export"], row["run"]) for name, row in targets.items()} == {
        "onnx": (True, "yes"), "executorch": (True, "yes"), "coreml": (True, "checked"),
    }  # fmt: skip
    assert "reference executor" in text
    assert "pip install" not in text
    _, targets, text = on("darwin", **EVERYTHING)
    assert targets["coreml"]["run"] == "yes"
    assert "reference executor" not in text


def test_a_camera_runs_onnx_and_is_told_what_brings_the_rest(on):
    code, targets, text = on(**{name: EVERYTHING[name] for name in CAMERA})
    assert code == 0
    assert {name: (row["export"], row["run"]) for name, row in targets.items()} == {
        "onnx": (False, "yes"), "executorch": (False, "no"), "coreml": (False, "no"),
    }  # fmt: skip
    for target in TARGETS:
        assert f"pip install 'edge-stscq[{target.extra}]'" in text
    assert set(targets["onnx"]["missing"]) == {"torch", "onnx", "onnxscript", "torchao", "executorch"}


@pytest.mark.parametrize("without", ["torch", "executorch"])
def test_executorch_needs_torch_to_run(on, without):
    _, targets, text = on(**{name: version for name, version in EVERYTHING.items() if name != without})
    assert ("executorch is not installed" if without == "executorch" else "executorch 1.5.1, which needs torch") in text
    assert (targets["executorch"]["run"], targets["executorch"]["missing"]) == ("no", [without])


@pytest.mark.parametrize("version", ["1.21.9", "2.0.0"])
def test_a_runtime_outside_its_range_is_marked(on, version):
    code, targets, text = on(**EVERYTHING | {"onnxruntime": version})
    assert code == 0
    assert (targets["onnx"]["in_range"], targets["onnx"]["run"], targets["onnx"]["export"]) == (False, "no", False)
    assert f"{version} is not in onnxruntime>=1.22,<2" in text
    assert "pip install 'onnxruntime>=1.22,<2'" in text


def test_a_machine_that_runs_nothing_fails(on):
    code, targets, text = on(numpy="2.4", torch="2.13.0", coremltools="9.0")
    assert targets["coreml"]["run"] == "checked"
    assert code == EXIT_CHECK_FAILED
    assert "no target can be run here" in text


@pytest.mark.parametrize(("compiled", "version"), [([], None), (["_C.py"], "1.5.1")])
def test_a_package_counts_only_with_its_compiled_parts(tmp_path, monkeypatch, compiled, version):
    folder = tmp_path / "extension" / "pybindings"
    folder.mkdir(parents=True)
    for name in compiled:
        (folder / name).touch()
    monkeypatch.setattr(module, "find_spec", lambda name: package(name, tmp_path))
    monkeypatch.setattr(module, "installed_version", lambda name: "1.5.1")
    assert module._version("executorch") == version
    assert module._version("coremltools") is None


def test_nothing_is_imported_and_torch_is_not_needed():
    """In a fresh Python that cannot import torch: what the command says, and what it left alone."""
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from typer.testing import CliRunner; import typer; from edge_stscq.cli.doctor import doctor\n"
        "app = typer.Typer(); app.command()(doctor)\n"
        "print(CliRunner().invoke(app, ['--json'], catch_exceptions=False).stdout)\n"
        "heavy = {'onnxruntime', 'onnx', 'executorch', 'torchao', 'coremltools', 'cv2'} & sys.modules.keys()\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["packages"]["torch"] is None
    assert report["decoder_device"] is None
    assert {row["target"]: row["run"] for row in report["targets"]} == {
        "onnx": "yes",
        "executorch": "no",
        "coreml": "no",
    }


@pytest.mark.parametrize(("built_for", "gpus", "device"), [(None, 1, "cpu"), ("13.0", 0, "cpu"), ("13.0", 1, "cuda")])
def test_the_decoder_needs_a_gpu_and_a_torch_built_for_it(tmp_path, monkeypatch, built_for, gpus, device):
    (tmp_path / "version.py").write_text(f"cuda = {built_for!r}\n")
    monkeypatch.setattr(module, "find_spec", lambda name: package(name, tmp_path))
    monkeypatch.setattr(module, "_gpus", lambda: gpus)
    assert module._decoder_device() == device


def test_it_looks_for_a_model_a_detector_a_camera_and_a_server(monkeypatch, tmp_path):
    monkeypatch.setattr("edge_stscq.hub.names.INSTALLED", (tmp_path,))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    words = ["--json", "--url", "http://127.0.0.1:1"]
    report = json.loads(CliRunner().invoke(app, words, catch_exceptions=False).stdout)
    found = {row["what"]: row for row in report["surroundings"]}
    assert list(found) == ["model", "bundle", "detector", "camera", "server"]
    assert found["detector"]["detail"].endswith(".onnx")
    assert (found["model"]["found"], found["server"]["found"]) == (False, False)
    assert found["bundle"]["detail"] == f"edge-stscq pull {BUNDLE} --from URL|DIR"
    assert "edge-stscq serve" in found["server"]["detail"]

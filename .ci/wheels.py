"""Build the package's wheels: one without a model, and one with the released model and its bundle for a camera.

`python .ci/wheels.py -o dist` writes `dist/*.whl` and `dist/with-model/*.whl`. Both are built from a copy of the
sources, so that nothing of an earlier build slips in. What goes into the larger one is held against the index, which
goes into both.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from edge_stscq._released import BUNDLE, MODEL
from edge_stscq.errors import EdgeError
from edge_stscq.hub.index import Index

ROOT = Path(__file__).resolve().parent.parent
SOURCES = ("pyproject.toml", "README.md", "LICENSE", "NOTICE", "edge_stscq", "quantization", "targets", "demo_camera")
INDEX = Path("edge_stscq", "hub", "index.json")
SKIPPED = shutil.ignore_patterns("__pycache__", "released")


def build(output: Path, bundle: Path, index: Path = ROOT / INDEX) -> tuple[Path, Path]:
    """The wheel without a model, and the one with it.

    Args:
        output: folder of the first; the second goes into `with-model` below.
        bundle: folder of the released bundle.
        index: what is released.

    Raises:
        EdgeError: model or bundle are not those of the index.
    """
    released = Index.model_validate_json(index.read_bytes())
    with tempfile.TemporaryDirectory() as folder:
        stage = Path(folder)
        for name in SOURCES:
            if (ROOT / name).is_dir():
                shutil.copytree(ROOT / name, stage / name, ignore=SKIPPED)
            else:
                shutil.copyfile(ROOT / name, stage / name)
        shutil.copyfile(index, stage / INDEX)
        plain = _wheel(stage, output)
        for name, source in {MODEL: ROOT / "models" / MODEL, BUNDLE: bundle}.items():
            release = released.find(name)
            try:
                release.check(source)
            except EdgeError as error:
                raise EdgeError(f"{error}; if it was made anew, describe it with: make index") from None
            shutil.copytree(source, stage / "edge_stscq" / "hub" / "released" / release.folder)
        return plain, _wheel(stage, output / "with-model")


def _wheel(stage: Path, output: Path) -> Path:
    shutil.rmtree(stage / "build", ignore_errors=True)
    for old in output.glob("edge_stscq-*.whl"):
        old.unlink()
    command = ["-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", str(output), str(stage)]
    subprocess.run([sys.executable, *command], check=True)
    return next(output.glob("edge_stscq-*.whl"))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--output", type=Path, default=Path("dist"))
    parser.add_argument("--bundle", type=Path, default=Path("bundles/onnx-int8"), help=f"bundle {BUNDLE}")
    arguments = parser.parse_args()
    try:
        wheels = build(arguments.output, arguments.bundle)
    except EdgeError as error:
        sys.exit(f"error: {error}")
    for wheel in wheels:
        print(f"{wheel}: {wheel.stat().st_size / 1e6:.1f} MB")

"""Every command of the README, in its order and in an empty folder, as it is printed.

What needs hardware or a place that is not there is substituted, and only that: see SUBSTITUTED. Blocks without a marker
`<!-- commands: ... -->` (training, LFW, make) are checked for options that exist.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from edge_stscq import cli
from tests.conftest import REPOSITORY
from tests.support.installed import need_module, need_program
from tests.support.models.released import Released

need_module("executorch", "pip install 'edge-stscq[executorch]'")
need_module("onnxscript", "pip install 'edge-stscq[onnx]'")
need_module("cryptography", "pip install 'edge-stscq[sign]'")

README = (REPOSITORY / "README.md").read_text()
SUBSTITUTED = {
    "--source 0 --spool": "--source PHOTOS/grace_hopper.jpg --spool",
    "--source 0": "--source portrait.png",
    "edge-stscq export --target all -o bundles": "cp -r EXPORTED/. bundles",
    "bundles/*-int8": "bundles/onnx-int8",
}
"""A camera by a portrait; and the export by what it made of the released model once for all tests, for one target: the
command has tests of its own."""


WAIT = "for _ in $(seq 600); do (echo > /dev/tcp/127.0.0.1/8377) 2> /dev/null && break || sleep 0.1; done"
"""Until the server that runs in the background answers."""


def commands(text: str) -> list[str]:
    """Lines of a block without their comments."""
    return [line.split("  # ")[0].strip() for line in text.strip().splitlines() if line.strip()]


FENCED = re.sub(r"^```python\n.*?^```$", "", README, flags=re.S | re.M)
"""Without snippets of Python, which `test_readme.py` runs."""
MARKED = [
    line for block in re.findall(r"<!-- commands: \w+ -->\n```\n(.*?)```", README, re.S) for line in commands(block)
]
OTHERS = [
    line for block in re.findall(r"^```\n(.*?)^```$", FENCED, re.S | re.M) for line in commands(block)
    if line in SUBSTITUTED or (line.startswith("edge-stscq") and line not in MARKED)
]  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty folder, but for a portrait in the place of a camera and photographs, and the place to pull from."""
    from demo_camera.sample_portraits import portraits

    folder = tmp_path_factory.mktemp("newcomer")
    shutil.copyfile(portraits()["astronaut"], folder / "portrait.png")
    (folder / "PHOTOS").mkdir()
    for name, path in portraits().items():
        shutil.copyfile(path, folder / "PHOTOS" / f"{name}{path.suffix}")
    return folder


@pytest.fixture(scope="module")
def program(folder: Path, released: Released, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The smaller wheel, installed, with an index of what this machine exports: other processors may export other
    bytes."""
    (folder / "PLACE").symlink_to(released.place)
    (folder / "EXPORTED").symlink_to(released.bundle.parent)
    program = tmp_path_factory.mktemp("made") / "program"
    shutil.copytree(REPOSITORY / "edge_stscq", program / "edge_stscq")
    shutil.copyfile(released.index, program / "edge_stscq" / "hub" / "index.json")
    for name in ("quantization", "targets", "demo_camera"):
        (program / name).symlink_to(REPOSITORY / name)
    return program


@pytest.mark.slow
def test_marked_commands_run_in_order(folder: Path, program: Path) -> None:
    need_program("openssl", "apt-get install openssl")
    assert len(MARKED) > 15
    # a program, not a function of the shell: of a function in the background, `kill` would end the subshell alone
    command = program / "bin" / "edge-stscq"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -P -m edge_stscq "$@"\n')
    command.chmod(0o755)
    script = ["set -eu"]
    for line in MARKED:
        for printed, run in SUBSTITUTED.items():
            line = line.replace(printed, run)
        script += [f"echo {shlex.quote('$ ' + line)} >&2", line]
        if line.endswith("&"):
            script += ["server=$!; trap 'kill $server' EXIT", WAIT]
    kept = {name: value for name, value in os.environ.items() if not name.startswith("EDGE_STSCQ_")}
    environment = kept | {
        "PYTHONPATH": str(program), "XDG_CACHE_HOME": str(folder / "cache"),
        "PATH": f"{command.parent}{os.pathsep}{kept['PATH']}",
    }  # fmt: skip
    done = subprocess.run(
        ["bash", "-c", "\n".join(script)], cwd=folder, env=environment, text=True, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    for made in ("out.stsq", "faces/000000.png", "bundles/onnx-int8/manifest.sig", "crops/astronaut.png"):
        assert (folder / made).is_file(), made


def options_of(line: str) -> set[str]:
    return set(re.findall(r"(?<![\w-])--?[a-z][\w-]*", line))


@pytest.mark.parametrize("line", OTHERS)
def test_other_commands_have_the_options_they_are_printed_with(line: str) -> None:
    words = re.match(r"edge-stscq((?: +[a-z]+)+)", line)
    assert words is not None
    names = words[1].split()
    command = names[:2] if names[0] in ("spool", "token", "bench") else names[:1]
    page = CliRunner().invoke(cli._app(), [*command, "--help"], catch_exceptions=False)
    assert page.exit_code == 0
    assert options_of(line) <= options_of(page.stdout)


def test_third_line_says_what_the_weights_are_for() -> None:
    assert "research, not for products" in README.splitlines()[2]
    assert "train on your own" in README.splitlines()[2]

"""Deployment of cameras: unit, image, composition, example."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
import venv
from pathlib import Path
from typing import get_args

import pytest
import yaml
from pydantic import BaseModel

from demo_camera.service.monitor.metrics import Metrics
from demo_camera.service.settings import Settings
from tests.conftest import REPOSITORY
from tests.support.bundles.sums_bundle import write_sums_bundle
from tests.support.installed import need_module

FOLDER = REPOSITORY / "deploy" / "camera"
UNIT = FOLDER / "edge-stscq-camera.service"
SLOW = "EDGE_STSCQ_SLOW"

needs_systemd = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="there is no systemd here")


def instructions() -> list[tuple[str, str]]:
    """Instructions of the Dockerfile with their arguments, lines joined."""
    text = re.sub(r"\\\n\s*", "", (FOLDER / "Dockerfile").read_text())
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return [(line.split(" ", 1)[0], line.split(" ", 1)[1]) for line in lines]


def of(kind: str) -> list[str]:
    return [argument for name, argument in instructions() if name == kind]


def keys(table: object, model: type[BaseModel], place: str = "") -> tuple[set[str], set[str]]:
    """Keys that a model has, and those that a table of TOML shows, each with its place."""
    tables = table if isinstance(table, list) else [table]
    known, shown = set(), set()
    for name, field in model.model_fields.items():
        known.add(f"{place}{name}")
        found = [one[name] for one in tables if isinstance(one, dict) and name in one]
        shown |= {f"{place}{name}"} if found else set()
        inner = next((one for one in (field.annotation, *get_args(field.annotation)) if is_table(one)), None)
        if inner is not None and name != "limits":
            below = keys(found[0] if found else {}, inner, f"{place}{name}.")
            known, shown = known | below[0], shown | below[1]
    return known, shown


def is_table(annotation: object) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def test_page_shows_every_key_and_is_valid() -> None:
    page = (REPOSITORY / "docs" / "cameras.md").read_text()
    (block,) = re.findall(r"^```toml\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    table = tomllib.loads(block)
    known, shown = keys(table, Settings)
    assert known == shown
    assert "camera.best_after" in known
    jsonschema = need_module("jsonschema", "pip install jsonschema")
    assert not list(jsonschema.Draft202012Validator(Settings.model_json_schema()).iter_errors(table))


def test_page_names_every_metric() -> None:
    page = (REPOSITORY / "docs" / "cameras.md").read_text()
    text = Metrics(list, [], dict).text().decode()
    names = set(re.findall(r"^# TYPE edge_stscq_camera_(\w+) ", text, re.MULTILINE))
    assert len(names) > 15
    assert not [name for name in names if f"`{name}" not in page]


@needs_systemd
def test_unit_is_one_for_systemd(tmp_path: Path) -> None:
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text().replace("/opt/edge-stscq/bin/edge-stscq", sys.executable))
    done = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@needs_systemd
def test_unit_exposes_little() -> None:
    command = ["systemd-analyze", "security", "--offline=yes", "--threshold=25", UNIT]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-200:]


def test_unit_waits_longer_for_a_sign_of_life_than_a_picture_may_take() -> None:
    from demo_camera.service.monitor.readiness import LONGEST_STEP

    (seconds,) = re.findall(r"^WatchdogSec=(\d+)$", UNIT.read_text(), re.MULTILINE)
    assert int(seconds) > LONGEST_STEP


def test_credentials_of_unit_and_composition_are_those_of_the_example() -> None:
    wanted = set(
        re.findall(r"/run/credentials/edge-stscq-camera.service/([\w.]+)", (FOLDER / "cameras.toml").read_text())
    )
    assert wanted == set(re.findall(r"^LoadCredential=([\w.]+):", UNIT.read_text(), re.MULTILINE))
    (service,) = yaml.safe_load((FOLDER / "compose.yaml").read_text())["services"].values()
    mounted = {Path(volume.split(":")[1]).name for volume in service["volumes"] if "/run/credentials/" in volume}
    assert wanted == mounted


def test_composition_keeps_to_this_machine_and_to_known_settings() -> None:
    composition = yaml.safe_load((FOLDER / "compose.yaml").read_text())
    assert composition.keys() == {"services", "volumes"}
    (service,) = composition["services"].values()
    assert (FOLDER / service["build"]["context"] / service["build"]["dockerfile"]).samefile(FOLDER / "Dockerfile")
    assert service["read_only"]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert all(port.startswith("127.0.0.1:") for port in service["ports"])
    named = {volume.split(":")[0] for volume in service["volumes"] if not volume.startswith(".")}
    assert named == composition["volumes"].keys()
    for variable in service["environment"]:
        table, model = variable.removeprefix("EDGE_STSCQ_CAMERA_").lower().partition("__")[::2]
        assert table in Settings.model_fields
        if model:
            assert model in Settings.model_json_schema()["$defs"]["MetricsSettings"]["properties"]


def test_image_runs_as_nobody_and_listens_where_the_settings_say() -> None:
    assert of("USER") == ["65532:65532"]
    assert of("EXPOSE") == [
        str(Settings.model_json_schema()["$defs"]["MetricsSettings"]["properties"]["port"]["default"])
    ]
    assert json.loads(of("ENTRYPOINT")[0]) == ["edge-stscq", "camera", "run"]
    assert all(":" in image and not image.startswith("scratch") for image in of("FROM"))


def test_image_holds_every_package_that_is_installed() -> None:
    kept = {line[1:] for line in (FOLDER / "Dockerfile.dockerignore").read_text().splitlines() if line.startswith("!")}
    included = re.search(r"^include = (\[.*\])$", (REPOSITORY / "pyproject.toml").read_text(), re.MULTILINE)
    assert included is not None
    assert {name.rstrip("*") for name in json.loads(included[1])} <= kept
    assert all((REPOSITORY / name).exists() for name in kept)


@pytest.mark.skipif(shutil.which("hadolint") is None, reason="there is no hadolint here")
def test_image_is_one_that_hadolint_likes() -> None:
    done = subprocess.run(["hadolint", FOLDER / "Dockerfile"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.skipif(os.environ.get(SLOW) != "1", reason=f"{SLOW}=1 installs from the network; minutes")
def test_image_works_in_an_empty_environment(tmp_path: Path, portrait: dict[str, Path]) -> None:
    """Its RUN lines one after another in a copy of what it is built from, then its ENTRYPOINT."""
    source, prefix, state = tmp_path / "src", tmp_path / "opt", tmp_path / "state"
    source.mkdir()
    for line in (FOLDER / "Dockerfile.dockerignore").read_text().splitlines():
        if line.startswith("!"):
            here, there = REPOSITORY / line[1:], source / line[1:]
            if here.is_dir():
                shutil.copytree(here, there, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(here, there)
    venv.create(tmp_path / "python", with_pip=True)
    kept = {name: value for name, value in os.environ.items() if name.startswith(("PIP_", "HTTP", "SSL_", "LANG"))}
    environment = kept | {
        "PREFIX": str(prefix), "STATE": str(state), "HOME": str(tmp_path),
        "PATH": f"{prefix}/bin:{tmp_path}/python/bin:/usr/bin:/bin",
    }  # fmt: skip
    for line in of("RUN"):
        if os.geteuid() != 0:
            line = line.replace("-o 65532 -g 65532", "")
        subprocess.run(["sh", "-euc", line], cwd=source, env=environment, check=True)
    assert state.stat().st_mode & 0o777 == 0o700
    bundle = write_sums_bundle(tmp_path / "bundle")
    (tmp_path / "cameras.toml").write_text(
        f"bundle = '{bundle}'\n[spool]\nfolder = '{tmp_path}/spools'\n[metrics]\nport = 0\n"
        f"[[camera]]\nname = 'door'\nsource = '{portrait['astronaut']}'\n"
    )
    command = [*json.loads(of("ENTRYPOINT")[0]), str(tmp_path / "cameras.toml")]
    done = subprocess.run(command, cwd=state, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines()[-1] == "ended: 1 face captured, 1 waiting"
    health = json.loads(of("HEALTHCHECK")[0].split("CMD ", 1)[1])
    compile(health[2], "HEALTHCHECK", "exec")
    assert shlex.join(health[:2]) == "python -c"

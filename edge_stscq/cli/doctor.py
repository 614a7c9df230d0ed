"""`edge-stscq doctor`: what is installed here, what each target can do with it, and how to install the rest.

Packages are looked up and not imported: the answer comes at once, also where one of them crashes when it is loaded.
"""

import ctypes
import json
import platform
from dataclasses import asdict, dataclass
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import find_spec, module_from_spec
from pathlib import Path
from typing import Annotated, Literal

import typer

from edge_stscq import __version__
from edge_stscq.cli.options import Ca, Cert, Key, Url
from edge_stscq.cli.surroundings import Finding, look_around
from edge_stscq.device.runtimes import installed_version
from targets import TARGETS, Target, find

_QUANTIZER = ("torchao", "executorch")
"""Packages that make the int8 graph of every target."""
_PACKAGES = tuple(dict.fromkeys((
    "numpy", "opencv-python-headless", "torch", *_QUANTIZER,
    *(package for target in TARGETS for package in (target.runtime.package, *target.packages)),
)))  # fmt: skip
"""Everything that is looked for, by the name that pip knows."""
_MODULES = {"opencv-python-headless": "cv2"}
"""Module to import of a package, where it has another name than the package."""
_COMPILED = {target.runtime.package: target.runtime.compiled_module for target in TARGETS}


@dataclass(frozen=True)
class _Ability:
    """Abilities of this machine with one target.

    Attributes:
        run: "checked" is the reference executor, which stands in for a runtime that this system does not have.
        runtime: the runtime's package; `version` is None where it is not installed.
        supported: the versions that a bundle of this target admits; `in_range` says whether `version` is one.
        missing: packages that are looked for and not there.
        install: commands that bring what is missing.
    """

    target: str
    export: bool
    run: Literal["yes", "checked", "no"]
    runtime: str
    version: str | None
    supported: str
    in_range: bool
    missing: tuple[str, ...]
    install: tuple[str, ...]


def doctor(
    url: Url = "http://127.0.0.1:8377",
    cert: Cert = None,
    key: Key = None,
    ca: Ca = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as one JSON object.")] = False,
) -> None:
    """List packages, what each target can do here, and whether a model, a detector, a camera and a server are found.

    Exit code 1 if no target can be run.
    """
    from edge_stscq._tls import client_context
    from edge_stscq.errors import EXIT_CHECK_FAILED

    versions = {package: _version(package) for package in _PACKAGES}
    abilities = [_ability(target, versions) for target in TARGETS]
    device, surroundings = _decoder_device(), look_around(url, client_context(cert, key, ca))
    if as_json:
        report = {
            "edge-stscq": __version__, "python": platform.python_version(),
            "system": f"{platform.system()} {platform.machine()}", "packages": versions, "decoder_device": device,
            "targets": [asdict(ability) for ability in abilities],
            "surroundings": [asdict(finding) for finding in surroundings],
        }  # fmt: skip
        typer.echo(json.dumps(report))
    else:
        _report(versions, abilities, device, surroundings)
    if not any(ability.run == "yes" for ability in abilities):
        raise typer.Exit(EXIT_CHECK_FAILED)


def _report(
    versions: dict[str, str | None], abilities: list[_Ability], device: str | None, surroundings: list[Finding]
) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Column, Table

    console = Console()
    packages = Table("package", "version", title=f"edge-stscq {__version__}, Python {platform.python_version()}")
    for package, version in versions.items():
        packages.add_row(package, version or "[yellow]not installed[/yellow]")
    packages.add_row("decoder's device", device or "[yellow]needs torch[/yellow]")
    console.print(packages)
    table = Table("target", "export", "run", "by")
    colors = {"yes": "green", "checked": "yellow", "no": "red"}
    for ability in abilities:
        export = "yes" if ability.export else "no"
        table.add_row(
            ability.target, *(f"[{colors[word]}]{word}[/{colors[word]}]" for word in (export, ability.run)),
            escape(_by(ability)),
        )  # fmt: skip
    console.print(table)
    around = Table("looked for", "found", Column("where, or what to do", overflow="fold"))
    for finding in surroundings:
        word = "[green]yes[/green]" if finding.found else "[yellow]no[/yellow]"
        around.add_row(finding.what, word, escape(finding.detail))
    console.print(around)
    lines = {command: ability for ability in abilities for command in ability.install}
    if lines:
        typer.echo("to install what is missing:")
    for command, ability in lines.items():
        typer.echo(f"  {command}")
        typer.echo(f"    # {ability.target}: {', '.join(ability.missing) or f'{ability.runtime} {ability.version}'}")
    if not any(ability.run == "yes" for ability in abilities):
        typer.echo("no target can be run here")


def _by(ability: _Ability) -> str:
    if ability.version is None:
        return f"{ability.runtime} is not installed"
    if not ability.in_range:
        return f"{ability.version} is not in {ability.supported}"
    if ability.run == "no":
        return f"{ability.runtime} {ability.version}, which needs torch"
    if (stand_in := find(ability.target)[0].stand_in) is not None:
        return stand_in.title
    return f"{ability.runtime} {ability.version}"


def _ability(target: Target, versions: dict[str, str | None]) -> _Ability:
    runtime, supported = target.runtime, target.supported
    version = versions[runtime.package]
    in_range = version is not None and supported.admits(version)
    stand_in = target.stand_in
    needs_torch = runtime.needs_torch if stand_in is None else stand_in.needs_torch
    to_run = {runtime.package} | ({"torch"} if needs_torch else set())
    missing = tuple(package for package in dict.fromkeys((*target.packages, *_QUANTIZER)) if versions[package] is None)
    run: Literal["yes", "checked", "no"] = "no"
    if in_range and not to_run & set(missing) and (stand_in is not None or runtime.unavailable() is None):
        run = "yes" if stand_in is None else "checked"
    install = [f"pip install 'edge-stscq[{target.extra}]'"] if missing else []
    if version is not None and not in_range:
        install.append(f"pip install '{supported.requirement}'")
    return _Ability(
        target.name, not missing and run != "no", run, runtime.package, version, supported.requirement, in_range,
        missing, tuple(install),
    )  # fmt: skip


def _version(package: str) -> str | None:
    """Version of a package whose module, compiled parts included, is there to be imported."""
    spec, compiled = find_spec(_MODULES.get(package, package)), _COMPILED.get(package)
    if spec is None or (compiled is not None and _inside(spec, compiled.partition(".")[2]) is None):
        return None
    return installed_version(package)


def _inside(package: ModuleSpec, name: str) -> ModuleSpec | None:
    """A module of a package, found without importing the package."""
    *folders, _ = name.split(".")
    places = [str(Path(place, *folders)) for place in package.submodule_search_locations or ()]
    return PathFinder.find_spec(f"{package.name}.{name}", places)


def _decoder_device() -> str | None:
    """ "cuda" where torch is built for it and the driver finds a GPU, else "cpu"; None without torch."""
    torch = find_spec("torch")
    spec = None if torch is None else _inside(torch, "version")
    if spec is None or spec.loader is None:
        return None
    build = module_from_spec(spec)
    spec.loader.exec_module(build)
    return "cuda" if build.cuda and _gpus() else "cpu"


def _gpus() -> int:
    """GPUs that the CUDA driver finds."""
    count = ctypes.c_int(0)
    for library in ("libcuda.so.1", "nvcuda.dll"):
        try:
            driver = ctypes.CDLL(library)
        except OSError:
            continue
        if driver.cuInit(0) == 0 and driver.cuDeviceGetCount(ctypes.byref(count)) == 0:
            return count.value
    return 0

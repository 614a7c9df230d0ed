"""Arrows between packages point one way, and what a camera runs never brings torch.

cli -> api -> {training, evaluation, targets, quantization, server, demo_camera}
    -> {codec, data, recognizers, device, client, hub, privacy} -> bundle -> stream -> config -> {protocol, errors, _*}
"""

import ast
import pkgutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent.parent
ROOTS = ("edge_stscq", "quantization", "targets", "demo_camera")

_FLOOR = {
    "errors",
    "protocol",
    "_files",
    "_images",
    "_limits",
    "_local_servers",
    "_package_files",
    "_progress",
    "_quiet",
    "_released",
    "_reporter",
    "_secrets",
    "_sqlite",
    "_tls",
    "_token_bucket",
    "edge_stscq",
}
_CONFIG = _FLOOR | {"config"}
_STREAM = _CONFIG | {"stream"}
_BUNDLE = _STREAM | {"bundle"}
_CODEC = _BUNDLE | {"codec", "recognizers"}
_ALL = _CODEC | {"data", "device", "client", "events", "hub", "privacy", "sealing"}

ALLOWED: dict[str, set[str]] = {
    "edge_stscq": _ALL | {"api", "server"},  # the front door: names that are imported when they are used
    **dict.fromkeys(_FLOOR - {"edge_stscq"}, {"errors", "edge_stscq"}),
    "_local_servers": {"_files", "errors", "edge_stscq"},
    "_secrets": {"_files", "errors", "edge_stscq"},
    "config": _FLOOR,
    "stream": _CONFIG,
    "bundle": _STREAM,
    "device": _BUNDLE,
    "client": _STREAM | {"sealing"},
    "privacy": _CONFIG,
    "sealing": _CONFIG,
    "events": _CONFIG,
    "hub": _BUNDLE,
    "codec": _CODEC - {"recognizers"} | {"hub"},
    "recognizers": _CODEC | {"data"},
    "data": _CODEC - {"recognizers"},
    "demo_camera": _BUNDLE | {"device", "client", "events", "privacy"},
    "server": _ALL - {"device", "client", "hub", "recognizers", "data", "privacy"},  # it holds no key of a template
    "matcher": {"privacy", "client", "server"} | _STREAM,  # it holds the keys, and no codec
    "training": _ALL - {"device", "client", "hub"},
    "quantization": _CODEC,
    "targets": _ALL - {"hub"} | {"quantization"},
    "evaluation": _ALL - {"hub"} | {"quantization", "targets"},
    "api": _ALL | {"training", "evaluation", "targets", "quantization", "server", "demo_camera"},
    "cli": _ALL | {"training", "evaluation", "targets", "quantization", "server", "demo_camera", "api", "matcher"},
    "__main__": {"cli"},
}
"""Packages (modules, on the shared floor) that each one may import, besides itself."""

DEFERRED = {
    "edge_stscq.bundle.bundle": {"edge_stscq.device.encoder", "edge_stscq.hub.names"},
    "edge_stscq.server.pictures.child": {
        "edge_stscq.device.detect", "edge_stscq.device.encoder", "edge_stscq.device.quality.gate",
    },
}  # fmt: skip
"""Modules above that a function imports when it is called: a bundle opens without a runtime and brings one when asked;
a camera's parts come in the confined process that codes uploaded pictures, and never in the server's own."""

TORCH_FREE = ("config", "stream", "bundle", "device", "client", "hub", "privacy", "sealing", "events", "matcher")


def package_of(module: str) -> str:
    """`edge_stscq.stream.frame` -> `stream`, `targets.onnx` -> `targets`, `edge_stscq` -> `edge_stscq`."""
    root, _, rest = module.partition(".")
    return rest.split(".")[0] if root == "edge_stscq" and rest else root


def modules() -> dict[str, Path]:
    """Every module of the installed packages by its dotted name."""
    found = {}
    for root in ROOTS:
        for path in sorted((REPOSITORY / root).rglob("*.py")):
            parts = path.relative_to(REPOSITORY).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(path: Path, known: dict[str, Path]) -> set[str]:
    """Modules of this repository that a file imports, wherever in it, also for types alone."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in known else str(node.module) for name in names}
    return {name for name in found if name.split(".")[0] in ROOTS}


def test_every_import_between_packages_is_allowed() -> None:
    known = modules()
    wrong = []
    for name, path in known.items():
        own = package_of(name)
        assert own in ALLOWED, f"{name} is of no package in the table; give it a row"
        for other in sorted(imports(path, known)):
            if (package := package_of(other)) != own and package not in ALLOWED[own] | deferred_packages(name):
                wrong.append(f"{name} imports {other}")
    assert not wrong, "\n".join(wrong)


def deferred_packages(module: str) -> set[str]:
    return {package_of(name) for name in DEFERRED.get(module, ())}


@pytest.mark.parametrize("module", DEFERRED)
def test_deferred_imports_bring_nothing_before_they_are_asked_for(module: str) -> None:
    code = f"import sys, {module}; sys.exit(sorted({DEFERRED[module]!r} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr.strip() == "[]"


def test_table_of_allowed_imports_has_no_circle() -> None:
    """But for the root, which everything may ask for the version."""
    rest = {package: allowed - {package, "edge_stscq"} for package, allowed in ALLOWED.items()}
    del rest["edge_stscq"]
    for package in [name for name in rest if name.startswith("_") or name in _FLOOR]:
        rest[package] -= {package}
    while rest:
        leaves = [package for package, allowed in rest.items() if not allowed & rest.keys()]
        assert leaves, f"a circle among {sorted(rest)}"
        rest = {package: allowed for package, allowed in rest.items() if package not in leaves}


def torch_free_modules() -> list[str]:
    """Every module of the torch-free packages, found by walking them."""
    found = ["edge_stscq.errors", "edge_stscq.protocol"]
    found += [f"edge_stscq.{path.stem}" for path in sorted((REPOSITORY / "edge_stscq").glob("_[a-z]*.py"))]
    for name in (*(f"edge_stscq.{package}" for package in TORCH_FREE), "edge_stscq._images", "demo_camera"):
        package = import_module(name)
        found += [name, *(info.name for info in pkgutil.walk_packages(package.__path__, f"{name}."))]
    return found


@pytest.mark.parametrize("module", [f"edge_stscq.{package}" for package in TORCH_FREE] + ["demo_camera"])
def test_walk_finds_the_modules_of_each_torch_free_package(module: str) -> None:
    below = {name for name in torch_free_modules() if name.startswith(f"{module}.")}
    files = (REPOSITORY / module.replace(".", "/")).rglob("[a-z]*.py")
    written = {".".join(path.relative_to(REPOSITORY).with_suffix("").parts) for path in files}
    assert written
    assert written <= below


def test_torch_free_modules_import_without_torch() -> None:
    code = (
        "import sys\n"
        "from importlib import import_module\n"
        "for name in sys.argv[1:]:\n"
        "    import_module(name)\n"
        "    heavy = {'torch', 'executorch', 'coremltools'} & sys.modules.keys()\n"
        "    if heavy: sys.exit(f'{name} brings {heavy}')\n"
    )
    front = (
        "edge_stscq.cli.send",
        "edge_stscq.cli.spool",
        "edge_stscq.cli.serve",
        "edge_stscq.server.app",
        "edge_stscq.server.decoding.worker",
    )
    command = [sys.executable, "-P", "-c", code, *torch_free_modules(), *front]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr

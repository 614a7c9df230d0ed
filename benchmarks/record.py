"""Record of a benchmark: its figures and when, where, with which command and versions they came about.

A figure without these can't be repeated or compared. Files are written in one step, so a run that is cut off leaves the
earlier result whole.
"""

import json
import os
import platform
import shlex
import sys
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from edge_stscq import __version__
from edge_stscq._files import write_file

RESULTS = Path(__file__).resolve().parent / "results"
PACKAGES = ("torch", "torchao", "executorch", "coremltools", "onnx", "onnxruntime", "numpy", "opencv-python-headless")


def record(results: Any) -> dict[str, Any]:
    """`results` (anything JSON takes) with the circumstances they were measured in."""
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "command": shlex.join(["python", "-m", _module(Path(sys.argv[0])), *map(_portable, sys.argv[1:])]),
        "machine": machine(),
        "versions": versions(),
        "results": results,
    }


def write(name: str, results: Any) -> Path:
    """Write `benchmarks/results/<name>.json` and return its path."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    write_file(path, (json.dumps(record(results), indent=2, allow_nan=False) + "\n").encode())
    return path


def machine() -> dict[str, Any]:
    """Processor, cores this process may use, memory in GiB, system, and what else the machine was doing."""
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "system": f"{platform.system()} {platform.machine()}",
        "load_average_1min": round(os.getloadavg()[0], 2),
    }


def versions() -> dict[str, str]:
    """Python, this package and the packages that a figure may depend on, where they are installed."""
    found = {"python": platform.python_version(), "edge-stscq": __version__}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def _module(script: Path) -> str:
    """Dotted name of a script or package of this folder, or the plain name of one from elsewhere."""
    path = script.resolve().with_suffix("")
    path = path.parent if path.name == "__main__" else path
    inside = path.is_relative_to(RESULTS.parent)
    return ".".join(("benchmarks", *path.relative_to(RESULTS.parent).parts)) if inside else path.name


def _portable(argument: str) -> str:
    """An argument without the folders of this machine."""
    return Path(argument).name if Path(argument).is_absolute() else argument


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or "unknown"

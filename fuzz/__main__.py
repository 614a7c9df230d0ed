"""Every target for a share of the time, each in its own process under limits of memory and of time for one input.

    python -m fuzz --minutes 10 [--target stream ...]

What breaks a property is saved under fuzz/crashes, and the command that tries it again is printed; exit code 1. New
inputs that reach new code are kept under fuzz/found for the next time.
"""

import re
import subprocess
import sys
from typing import Annotated

import typer

from fuzz import CORPUS, FOLDER
from fuzz.properties import PROPERTIES

INPUT_SECONDS = 10
"""Longest time one input may take."""
MEMORY_MIB = {
    "file": 512, "stream": 512, "payload": 512, "packed": 512, "learned": 512, "weights": 512,
    "manifest": 512, "request": 2048,
}  # fmt: skip
"""Most memory of the process; the application holds torch and a model."""
LONGEST = {
    "file": 4096, "stream": 4096, "payload": 4096, "packed": 256, "learned": 256, "weights": 8192,
    "manifest": 16384, "request": 8192,
}  # fmt: skip
"""Bytes of an input."""


def fuzz(name: str, seconds: int) -> bool:
    """Run one target; whether nothing was found."""
    found, crashes = FOLDER / "found" / name, FOLDER / "crashes"
    found.mkdir(parents=True, exist_ok=True)
    crashes.mkdir(exist_ok=True)
    options = {
        "max_total_time": seconds, "timeout": INPUT_SECONDS, "rss_limit_mb": MEMORY_MIB[name], "max_len": LONGEST[name],
        "dict": FOLDER / f"{name}.dict", "artifact_prefix": f"{crashes}/{name}-", "print_final_stats": 1,
    }  # fmt: skip
    command = [sys.executable, "-m", "fuzz.one", name, *(f"-{option}={value}" for option, value in options.items())]
    done = subprocess.run(
        [*command, str(found), str(CORPUS / name)],
        cwd=FOLDER.parent, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
    )  # fmt: skip
    executed, rate, new = (
        int(match[1]) if (match := re.search(rf"stat::{stat}: *(\d+)", done.stdout)) else 0
        for stat in ("number_of_executed_units", "average_exec_per_sec", "new_units_added")
    )
    coverage = re.findall(r"cov: (\d+)", done.stdout)
    typer.echo(f"{name}: {executed:,} inputs, {rate:,} a second, {new} kept, {(coverage or ['?'])[-1]} edges")
    if done.returncode == 0:
        return True
    saved = re.search(r"Test unit written to (\S+)", done.stdout)
    typer.echo(done.stdout[-3000:])
    typer.echo(f"{name}: broken; try again with: python -m fuzz.one {name} {saved[1] if saved else CORPUS / name}")
    return False


def main(
    minutes: Annotated[float, typer.Option(min=0.1, help="For all targets together.")] = 10,
    target: Annotated[list[str] | None, typer.Option(help="Only this one; may be repeated.")] = None,
) -> None:
    """Look for bytes that break a property."""
    names = target or list(PROPERTIES)
    if unknown := set(names) - set(PROPERTIES):
        raise typer.BadParameter(f"{', '.join(unknown)} is none of {', '.join(PROPERTIES)}")
    whole = [fuzz(name, max(1, round(60 * minutes / len(names)))) for name in names]
    raise typer.Exit(0 if all(whole) else 1)


if __name__ == "__main__":
    typer.run(main)

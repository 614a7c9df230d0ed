"""Commands of this program, run after each other in one process: every start of Python imports torch anew.

They run in the process of the tests, or in a fresh one where they need a launcher or an environment of their own:

    python -m tests.support.commands LINES ANSWERS

runs each of the lines (JSON, a list of words each) and writes what became of it to a file of its own in a folder.
"""

import io
import json
import os
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import NamedTuple

REPOSITORY = Path(__file__).resolve().parents[2]


class Done(NamedTuple):
    """Exit code and output of a command; of several processes, the worst code and all output."""

    returncode: int
    stdout: str
    stderr: str


def run_commands(*lines: Sequence[object]) -> list[Done]:
    """Results of commands that run in this process; those behind one that failed are run as well.

    Args:
        lines: words of each, e.g. `("export", "--model", folder)`.
    """
    with _settings_kept():
        return [_run([str(word) for word in line]) for line in lines]


@contextmanager
def _settings_kept() -> Iterator[None]:
    """Undo what a command sets for its whole process, which usually ends with it."""
    import torch

    from edge_stscq.cli.ui import set_verbosity, verbosity

    words, threads, loudness = sys.argv, torch.get_num_threads(), verbosity()
    try:
        yield
    finally:
        sys.argv = words
        torch.set_num_threads(threads)
        torch.set_flush_denormal(False)
        set_verbosity(loudness)


def run_commands_afresh(
    *lines: Sequence[object],
    launcher: Sequence[str] = (),
    environment: Mapping[str, str] = os.environ,
    folder: Path | None = None,
) -> list[Done]:
    """As `run_commands`, in a fresh process.

    Args:
        launcher: words between Python and the module, e.g. of torchrun.
        folder: working directory of the process; that of the tests if None.
    """
    with tempfile.TemporaryDirectory() as answers:
        words = json.dumps([[str(word) for word in line] for line in lines])
        places = [str(REPOSITORY), *filter(None, [environment.get("PYTHONPATH")])]
        subprocess.run(
            [sys.executable, "-P", *launcher, "-m", "tests.support.commands", words, answers], check=True, timeout=600,
            env={**environment, "PYTHONPATH": os.pathsep.join(places)}, cwd=folder,
        )  # fmt: skip
        return [_answer(sorted(Path(answers).glob(f"{number:03d}-*.json"))) for number in range(len(lines))]


def _answer(paths: Sequence[Path]) -> Done:
    codes, stdout, stderr = zip(*(json.loads(path.read_bytes()) for path in paths), strict=True)
    return Done(max(codes, key=abs), "".join(stdout), "".join(stderr))


def _run(words: Sequence[str]) -> Done:
    """Run one command as `python -m edge_stscq` would."""
    from edge_stscq.cli import main

    stdout, stderr, code = io.StringIO(), io.StringIO(), 0
    sys.argv = ["edge-stscq", *words]
    with redirect_stdout(stdout), redirect_stderr(stderr):
        try:
            main()
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
        except Exception:
            traceback.print_exc()
            code = 1
    return Done(code, stdout.getvalue(), stderr.getvalue())


if __name__ == "__main__":
    lines, answers = json.loads(sys.argv[1]), Path(sys.argv[2])
    for number, line in enumerate(lines):
        if number and "MASTER_PORT" in os.environ:
            # another store of addresses: from torchrun's own, a process may take those of the command before
            port = int(os.environ["MASTER_PORT"]) + 10
            os.environ |= {"TORCHELASTIC_USE_AGENT_STORE": "False", "MASTER_PORT": str(port)}
        path = answers / f"{number:03d}-{os.environ.get('RANK', '0')}.json"
        path.write_text(json.dumps(_run(line)))

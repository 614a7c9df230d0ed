"""Does an artefact run? Asked in a process of its own, since an int8 artefact can take down the process that loads it.

    python -m targets.check BUNDLE ANSWER.json

opens the bundle as a device does (every hash, the runtime's version), runs the golden pictures twice and writes what
came out. `run_fresh` starts that process, limits its time and turns whatever happens to it into an error.
"""

import json
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from edge_stscq.device import Bundle, DeviceEncoder, load_encoder, open_bundle
from edge_stscq.errors import EdgeError
from targets.base import Prediction

SECONDS = 300
"""Time limit of a fresh process."""


def open_encoder(bundle: Bundle, threads: int = 0, *, verify: bool = True) -> DeviceEncoder:
    """The artefact in its runtime or, for Core ML off macOS, in the reference executor; its `runtime` says which.

    Raises:
        EdgeError: the runtime is not installed or cannot load the artefact.
    """
    if bundle.manifest.target != "coreml" or sys.platform == "darwin":
        return load_encoder(bundle, threads, verify=verify)
    from targets.reference import load

    return DeviceEncoder(bundle, load(bundle.artefact).run, "reference executor (Core ML runs on macOS only)")


def run_fresh(folder: Path, seconds: float = SECONDS) -> tuple[Prediction, str]:
    """Answers of a bundle's artefact to its golden pictures, from a fresh process, and the runtime that gave them.

    Raises:
        EdgeError: as `in_fresh_process`, or the artefact answered differently the second time.
    """
    content = in_fresh_process("targets.check", folder.resolve(), seconds=seconds)
    groups, tokens = (np.array(content[key], np.int32) for key in ("groups", "tokens"))
    return Prediction(groups, tokens), str(content["runtime"])


def in_fresh_process(module: str, *words: object, seconds: float = SECONDS) -> dict[str, Any]:
    """Run `python -m MODULE WORDS... ANSWER.json`, which runs an artefact, and return the answer that it writes.

    Raises:
        EdgeError: the process was killed by a signal, took too long or reported an error; with the last it said.
    """
    with tempfile.TemporaryDirectory() as scratch:
        answer = Path(scratch) / "answer.json"
        command = [sys.executable, "-m", module, *map(str, words), str(answer)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False)
        except subprocess.TimeoutExpired as error:
            # what was read until then comes as bytes, whatever `text` says
            said = _last_words((error.stderr or b"").decode(errors="replace"))
            raise EdgeError(f"the artefact did not answer within {seconds:.0f} seconds{said}") from None
        said = _last_words(done.stderr)
        if done.returncode < 0:
            name = signal.Signals(-done.returncode).name
            raise EdgeError(f"the artefact killed the process that ran it ({name}){said}")
        if done.returncode > 0 or not answer.exists():
            raise EdgeError(f"the artefact does not run (exit code {done.returncode}){said}")
        content: dict[str, Any] = json.loads(answer.read_bytes())
    return content


def _last_words(stderr: str) -> str:
    """The runtime's message: the last line that a process wrote, to stand at the end of ours."""
    lines = stderr.strip().splitlines()
    return f": {lines[-1].removeprefix('error: ')}" if lines else ""


def main(folder: Path, answer: Path) -> None:
    bundle = open_bundle(folder)
    encoder = open_encoder(bundle, threads=1, verify=False)
    first, second = ([encoder.run(image) for image in bundle.golden.images] for _ in range(2))
    groups, tokens = [group for group, _ in first], [tokens.tolist() for _, tokens in first]
    if groups != [group for group, _ in second] or tokens != [tokens.tolist() for _, tokens in second]:
        raise EdgeError("the same picture gives other tokens the second time")
    answer.write_text(json.dumps({"groups": groups, "tokens": tokens, "runtime": encoder.runtime}))


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]), Path(sys.argv[2]))
    except EdgeError as error:
        sys.exit(f"error: {error}")

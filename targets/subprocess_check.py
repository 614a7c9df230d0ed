"""Check that an artifact runs, in a process of its own: an int8 artifact can take down the process that loads it.

    python -m targets.subprocess_check BUNDLE ANSWER.json

opens the bundle as a device does (every hash, the runtime's version), runs the golden pictures twice and writes what
came out. `verify_in_subprocess` starts that process, limits its time and turns whatever happens to it into an error.
"""

import json
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from edge_stscq.bundle import Bundle, open_bundle
from edge_stscq.device import DeviceEncoder, load_encoder
from edge_stscq.errors import EdgeError
from edge_stscq.stream import Codes
from targets import target_of

SECONDS = 300
"""Time limit of a fresh process."""


def load_encoder_or_reference(bundle: Bundle, threads: int = 0, *, verify: bool = True) -> DeviceEncoder:
    """The artifact in its runtime or, where that does not run here, in its reference executor; `runtime` says which.

    Raises:
        EdgeError: the runtime is not installed or cannot load the artifact.
    """
    reference = target_of(bundle).stand_in
    if reference is None:
        return load_encoder(bundle, threads, verify=verify)
    return DeviceEncoder(bundle, reference.load(bundle), reference.title)


def verify_in_subprocess(folder: Path, seconds: float = SECONDS) -> tuple[Codes, str]:
    """Answers of a bundle's artefact to its golden pictures, from a fresh process, and the runtime that gave them.

    Raises:
        EdgeError: as `run_module`, or the artefact answered differently the second time.
    """
    content = run_module("targets.subprocess_check", folder.resolve(), seconds=seconds)
    return Codes(content["groups"], content["tokens"], content["layers"]), str(content["runtime"])


def run_module(module: str, *words: object, seconds: float = SECONDS) -> dict[str, Any]:
    """Run `python -m MODULE WORDS... ANSWER.json`, which runs an artefact, and return the answer that it writes.

    Raises:
        EdgeError: the process was killed by a signal, took too long or reported an error; with the last it said.
    """
    with tempfile.TemporaryDirectory() as scratch:
        answer = Path(scratch) / "answer.json"
        command = [sys.executable, "-P", "-m", module, *map(str, words), str(answer)]
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
    encoder = load_encoder_or_reference(bundle, threads=1, verify=False)
    first, second = ([encoder.run(image) for image in bundle.golden.images] for _ in range(2))
    groups, tokens = [group for group, _ in first], [tokens.tolist() for _, tokens in first]
    if groups != [group for group, _ in second] or tokens != [tokens.tolist() for _, tokens in second]:
        raise EdgeError("the same picture gives other tokens the second time")
    layers = len(bundle.config.layers)
    answer.write_text(json.dumps({"groups": groups, "tokens": tokens, "layers": layers, "runtime": encoder.runtime}))


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]), Path(sys.argv[2]))
    except EdgeError as error:
        sys.exit(f"error: {error}")

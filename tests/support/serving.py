"""A server in a process of its own, as `edge-stscq serve` starts it."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SECONDS = 120
"""That a server may take to start on a busy machine."""


@contextmanager
def serving(model: Path, folder: Path) -> Iterator[str]:
    """Address of a server of one model, with its files in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    said = folder / "server.log"
    command = [sys.executable, "-P", "-m", "edge_stscq", "serve", "--model", str(model), "--port", "0"]
    kept = {name: value for name, value in os.environ.items() if not name.startswith("EDGE_STSCQ_")}
    with said.open("w") as log:
        process = subprocess.Popen(
            [*command, "--store", str(folder / "faces.db")], env=kept, stdout=log, stderr=subprocess.STDOUT
        )
        try:
            ends = time.monotonic() + SECONDS
            while not (found := re.search(r" on (http://\S+) ", said.read_text())):
                assert process.poll() is None, said.read_text()
                assert time.monotonic() < ends, "the server did not start"
                time.sleep(0.05)
            yield found[1]
        finally:
            process.terminate()
            process.wait(30)

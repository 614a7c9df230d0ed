"""Fuzz targets for everything that a stranger can send, held against what may come of it.

    python -m fuzz --minutes 10      every target, each in a process of its own
    python -m fuzz.seeds             make fuzz/corpus again, after a change of format

`properties` says for each target what must hold for any bytes whatever. Atheris looks for bytes that break it, with
fuzz/corpus and a dictionary to start from; the tests try the corpus and what Hypothesis makes up.
"""

from pathlib import Path

FOLDER = Path(__file__).resolve().parent
CORPUS = FOLDER / "corpus"

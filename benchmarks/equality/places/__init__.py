"""Registry of places: one small file for each kind, in the order of the table.

A further place is a `Place` in one of these files, or in a file of its own that is added here. If it runs Python, its
worker is `benchmarks/equality/worker.py` with a loader of its own.
"""

import fnmatch
from difflib import get_close_matches

from benchmarks.equality.places import arm, haswell, native, reference, web
from benchmarks.equality.places.base import Place, Setting
from edge_stscq.errors import EdgeError

__all__ = ["PLACES", "Place", "Setting", "find"]

PLACES: dict[str, Place] = {
    place.name: place for place in (*reference.PLACES, *native.PLACES, *haswell.PLACES, *arm.PLACES, *web.PLACES)
}
"""By name."""


def find(words: list[str], exact: bool = False) -> list[Place]:
    """Places that words stand for: a name, a pattern such as `chromium-*`, or `here`, this processor's own.

    Args:
        exact: the model is known and its student made for integers: `here` stands for the reference executor too.

    Raises:
        EdgeError: a word stands for none.
    """
    here = [*(reference.PLACES if exact else ()), *native.PLACES]
    chosen: dict[str, Place] = {}
    for word in words:
        found = here if word == "here" else [PLACES[name] for name in fnmatch.filter(PLACES, word)]
        if not found:
            close = get_close_matches(word, PLACES, n=1)
            hint = f"; did you mean {close[0]}?" if close else ""
            raise EdgeError(f"no place is called {word!r}{hint} (places: here, {', '.join(PLACES)})")
        chosen |= {place.name: place for place in found}
    return list(chosen.values())

"""A word of the command line to a folder: a path, or the name of a release."""

import os
from collections.abc import Callable
from pathlib import Path

from edge_stscq.errors import EdgeError
from edge_stscq.hub.index import Release, load_index
from edge_stscq.hub.transfer import PLACE_VARIABLE, cache_folder, pull

_PACKAGE = Path(__file__).resolve().parent
INSTALLED = (_PACKAGE / "released", _PACKAGE.parent.parent)
"""Where a release may have come with the program: in the larger wheel, or in the repository that it runs from."""


def resolve(word: str | Path, on_pull: Callable[[str], None] = lambda name: None) -> Path:
    """The folder of a model or bundle that a word names.

    A path that exists is taken as it is. Otherwise a name of the index is looked for beside the program, then in the
    cache, whose files are verified, and then fetched if `EDGE_STSCQ_MODELS` says from where.

    Args:
        word: a path, or a name such as "face64" or "face64:onnx-int8".
        on_pull: called with the name before it is fetched.

    Raises:
        EdgeError: it is a name of the index and cannot be had here, or neither a path nor a name.

    Example:
        >>> resolve("models/face64")  # doctest: +SKIP
        PosixPath('models/face64')
    """
    path, name = Path(word), str(word)
    if path.exists():
        return path
    release = load_index().releases.get(name)
    if release is None:
        if "/" in name or os.sep in name:
            return path  # the command says what it misses there
        released = ", ".join(load_index().releases)
        raise EdgeError(f"{name} is neither a folder nor released; released are {released}")
    found = find_here(name, release)
    if found is not None:
        return found
    if not os.environ.get(PLACE_VARIABLE):
        raise EdgeError(f"{name} is not here; get it with: edge-stscq pull {name} --from URL|DIR")
    on_pull(name)
    return pull(name)


def find_here(name: str, release: Release) -> Path | None:
    """Folder of a release that came with the program or is in the cache, the latter verified; None if there is none.

    Raises:
        EdgeError: the cache holds it, altered.
    """
    for root in INSTALLED:
        if (root / release.folder).is_dir():
            return root / release.folder
    cached = cache_folder() / release.folder
    if not cached.is_dir():
        return None
    try:
        release.check(cached)
    except EdgeError as error:
        raise EdgeError(f"{error}; fetch it again with: edge-stscq pull {name} --from URL|DIR") from None
    return cached

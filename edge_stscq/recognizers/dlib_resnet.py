"""dlib's ResNet (King 2017): a recogniser to choose training runs by, so that the judge is spared for releases.

128 dimensions; its author's own data and code, CC0; 99.4 % on LFW by its author. Embeddings are compared by Euclidean
distance. Its weights come in the package face_recognition_models, the network in dlib-bin; it takes 0.2 s a face.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_stscq._package_files import package_file
from edge_stscq.errors import require

CHIP = 150
"""Side in pixels of the network's input."""
_CROP_POINTS = ((86.45, 61.73), (73.13, 62.15), (39.13, 61.75), (52.40, 62.13), (62.90, 87.60))
"""Corners of the right and the left eye and the base of the nose in a 128-px crop: means of what dlib's
`shape_predictor_5_face_landmarks` finds in 40 LFW crops."""
_CHIP_POINTS = ((110.96, 46.35), (89.61, 47.90), (37.06, 46.37), (58.41, 47.91), (74.01, 87.78))
"""The same points of a chip as `dlib.get_face_chip` cuts it with its padding of 0.25 from its mean face."""


class DlibRecognizer:
    """The network, on aligned crops.

    Raises:
        MissingExtraError: a package is not installed.
    """

    name = "dlib"

    def __init__(self) -> None:
        dlib = require("dlib", "bench")
        path = package_file(
            "face_recognition_models",
            "face_recognition_models/models/dlib_face_recognition_resnet_model_v1.dat",
            "face_recognition_models==0.3.0",
        )
        self._net = dlib.face_recognition_model_v1(str(path))

    def embed(self, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Embeddings float32 [N, 128] of crops uint8 [N,128,128,3] RGB; not of unit length."""
        rows = [self._net.compute_face_descriptor(chip(crop)) for crop in crops]
        return np.array(rows, np.float32).reshape(len(crops), -1)


def chip(crop: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A crop uint8 [128,128,3] as dlib would have cut it from the picture, uint8 [150,150,3].

    All crops are aligned alike, so one similarity does for all. Where it reaches beyond the crop, its edge is repeated.
    """
    cut = cv2.warpAffine(crop, _similarity(), (CHIP, CHIP), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(cut, np.uint8)


def _similarity() -> NDArray[np.float64]:
    """The least-squares turn, scaling and shift from a crop's points to a chip's, [2, 3]."""
    ours, theirs = (np.array(points) @ [1, 1j] for points in (_CROP_POINTS, _CHIP_POINTS))
    before, after = ours - ours.mean(), theirs - theirs.mean()
    turn = np.vdot(before, after) / np.vdot(before, before)
    shift = theirs.mean() - turn * ours.mean()
    return np.array([[turn.real, -turn.imag, shift.real], [turn.imag, turn.real, shift.imag]])

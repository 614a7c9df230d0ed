"""Where a face lies in its picture: how large, how far inside, and which way it looks, all from its five points.

None of these looks at a pixel. The pose is what a pinhole camera far away would see of a stiff head; it orders faces by
how far they are turned and is no instrument for angles.
"""

import numpy as np
from numpy.typing import NDArray

from edge_stscq.device.crop import crop_mask
from edge_stscq.device.quality.light import FACE

DEPTH = 0.55
"""Distance of the tip of the nose before the plane of eyes and mouth, in distances between the eyes."""


def points_outside(shape: tuple[int, ...], points: NDArray[np.float64]) -> float:
    """Distance of the farthest point from the picture `(H, W, ...)`, in eye distances; 0 if all are inside."""
    far = np.array(shape[1::-1]) - 0.5
    beyond = np.maximum(np.maximum(-0.5 - points, points - far), 0)
    return float(beyond.max() / max(eye_distance(points), 1e-9))


def crop_outside(shape: tuple[int, ...], points: NDArray[np.float64]) -> float:
    """Share of the face in its crop that is not picture `(H, W, ...)` but its reflection, 0 to 1."""
    face = crop_mask(shape, points)[FACE]
    return float(1 - np.count_nonzero(face) / face.size)


def eye_distance(points: NDArray[np.float64]) -> float:
    """Pixels between the eyes."""
    return float(np.linalg.norm(points[1] - points[0]))


def yaw(points: NDArray[np.float64]) -> float:
    """Turn of the head to the side, in degrees, -90 to 90; 0 looks into the camera.

    The nose stands before the face, so that it moves against the middle of eyes and mouth corners as the head turns.
    """
    across = points[[1, 4]].mean(0) - points[[0, 3]].mean(0)
    nose = points[2] - points[[0, 1, 3, 4]].mean(0)
    return float(np.degrees(np.arctan2(nose @ across, DEPTH * max(float(across @ across), 1e-9))))

"""Comparing only what is picture.

A crop may reach beyond the picture it was cut from; a mask says where it does. Outside the mask nobody knows what
belongs there, so the decoded face is replaced by its original before anything looks at it: no metric can see a
difference there, and networks see no edge that is not in the original too.

A mask is bool or float [N, S, S]: true or 1 where the crop is picture, 0 where it isn't, between them part of both.
"""

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_] | NDArray[np.floating]
Weights = NDArray[np.float32]
"""A mask as float32 [N, S, S] in 0..1."""


def mask_weights(mask: Mask, images: NDArray[np.uint8]) -> Weights:
    """A mask as weights of the pixels of `images`, uint8 [N, S, S, 3].

    Raises:
        ValueError: it is of another shape, leaves 0..1, or hides all of a picture.
    """
    if mask.shape != images.shape[:3]:
        raise ValueError(f"masks of shape {mask.shape} do not fit pictures of shape {images.shape}")
    weights = mask.astype(np.float32)
    if not ((weights >= 0) & (weights <= 1)).all():
        raise ValueError("masks must lie between 0 (no picture) and 1 (picture)")
    if not weights.any(axis=(1, 2)).all():
        raise ValueError("a mask hides all of a picture; leave that face out")
    return weights


def only_picture(
    original: NDArray[np.uint8], decoded: NDArray[np.uint8], mask: Mask | None = None
) -> NDArray[np.uint8]:
    """`decoded` inside the mask, `original` outside: uint8 [N, S, S, 3] twice -> the same shape."""
    if mask is None:
        return decoded
    share = mask_weights(mask, original)[..., None]
    return np.asarray(np.rint(share * decoded + (1 - share) * original), np.uint8)

"""The gate passes ordinary faces and names why it stops others."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from edge_stscq._images import read_image
from edge_stscq.device.crop import TEMPLATE, crop_face
from edge_stscq.device.detect import Detector, Face
from edge_stscq.device.quality import QualityGate, sharpness


@pytest.mark.parametrize("name", ["astronaut", "grace_hopper"])
def test_portraits_pass_and_their_blurred_copies_do_not(
    name: str, detector: Detector, portrait: dict[str, Path]
) -> None:
    image = read_image(portrait[name])
    face = detector.largest(image)
    assert face is not None
    crop = crop_face(image, face.points)
    assert QualityGate().check(face, crop) is None
    blurred = crop_face(np.asarray(cv2.GaussianBlur(image, (0, 0), face.eye_distance / 8), np.uint8), face.points)
    rejection = QualityGate().check(face, blurred)
    assert rejection is not None
    assert str(rejection) == f"too blurred (sharpness {sharpness(blurred):.0f} is below 15)"


@pytest.mark.parametrize(
    ("points", "score", "reason"),
    [
        (TEMPLATE, 0.59, "hardly a face (score 0.59 is below 0.6)"),
        (TEMPLATE * 0.5, 0.9, "too small (18 px between the eyes, below 20)"),
        (TEMPLATE, 0.9, "too blurred (sharpness 0 is below 15)"),
    ],
)
def test_reasons_are_words_with_numbers(points: np.ndarray, score: float, reason: str) -> None:
    assert str(QualityGate().check(Face(points, (0, 0, 9, 9), score), np.full((128, 128, 3), 90, np.uint8))) == reason


def test_zeros_switch_the_gate_off() -> None:
    face = Face(TEMPLATE * 0.1, (0, 0, 9, 9), 0.1)
    assert QualityGate(score=0, eye_distance=0, sharpness=0).check(face, np.zeros((128, 128, 3), np.uint8)) is None

"""MobileNetV2 is the network its weights were trained as: it names what a picture shows."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from edge_stscq.evaluation.appearance.mobilenet import WIDTH, MobileNetV2, load_mobilenet, normalized, pooled_features


@pytest.fixture(scope="module")
def net() -> MobileNetV2:
    return load_mobilenet()


@pytest.mark.parametrize(("name", "label", "least"), [("coffee", 967, 0.9), ("chelsea", 285, 0.5)])
def test_it_knows_an_espresso_and_a_cat(net: MobileNetV2, name: str, label: int, least: float) -> None:
    picture = cv2.imread(str(Path(pytest.importorskip("skimage").__file__).parent / "data" / f"{name}.png"))[..., ::-1]
    side = min(picture.shape[:2])
    top, left = ((length - side) // 2 for length in picture.shape[:2])
    center = picture[top : top + side, left : left + side]
    shown = cv2.resize(center, (224, 224), interpolation=cv2.INTER_AREA)[None]
    with torch.inference_mode():
        probabilities = net(normalized(shown)).softmax(1)[0]
    assert int(probabilities.argmax()) == label
    assert float(probabilities[label]) > least


def test_features_are_of_each_picture_alone(net: MobileNetV2, people: NDArray[np.uint8]) -> None:
    both = pooled_features(net, people)
    assert both.shape == (2, WIDTH)
    np.testing.assert_allclose(pooled_features(net, people[1:]), both[1:], atol=1e-4)
    assert (both >= 0).all()
    assert np.abs(both[0] - both[1]).mean() > 0.01

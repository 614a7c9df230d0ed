"""Masks of what is picture: read from inside-files and alpha channels, moved with its crop, refused where wrong."""

import json
import tarfile
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge_stscq.data.loader import Augmentation, FaceSet, Loader, augment
from edge_stscq.errors import EdgeError

STILL = Augmentation(flip=False, shift=0, rotation=0, scale=0, brightness=0, contrast=0)
BOX = [[20, 30], [119, 30], [119, 129], [20, 129]]


def archive(folder: Path, count: int = 2, inside: object = None, alpha: np.ndarray | None = None) -> Path:
    """A tar of crops that are white where `BOX` is and black elsewhere."""
    image = np.zeros((144, 144, 3), np.uint8)
    image[30:130, 20:120] = 255
    if alpha is not None:
        image = np.dstack([image, alpha])
    with tarfile.open(folder / "faces.tar", "w") as tar:
        for index in range(count):
            cv2.imwrite(str(folder / f"{index}.png"), image)
            tar.add(folder / f"{index}.png", f"{index}.png")
            (folder / f"{index}.png").unlink()
    if inside is not None:
        (folder / "faces.inside.json").write_text(inside if isinstance(inside, str) else json.dumps(inside))
    return folder / "faces.tar"


def test_inside_file_says_what_is_picture(tmp_path: Path) -> None:
    faces = FaceSet([archive(tmp_path, 3, {"0.png": BOX, "1.png": None})])
    names = [f"{tmp_path / 'faces.tar'}: {name}" for name in ("0.png", "2.png")]
    assert faces.names == names, "null leaves a crop out"
    expected = np.zeros((144, 144), np.uint8)
    expected[32:128, 22:118] = 255  # two pixels within the box
    assert np.array_equal(faces.mask(0), expected)
    assert faces.mask(1).min() == 255, "what the file does not name is picture"
    assert np.array_equal(faces.crop_mask(0), expected[8:136, 8:136])
    whole = FaceSet([tmp_path / "faces.tar"], masked=False)
    assert len(whole) == 3
    assert whole.mask(0).min() == 255


def test_folder_has_its_file_beside_it(tmp_path: Path) -> None:
    (tmp_path / "set" / "part").mkdir(parents=True)
    cv2.imwrite(str(tmp_path / "set" / "part" / "a.png"), np.zeros((128, 128, 3), np.uint8))
    (tmp_path / "set.inside.json").write_text(json.dumps({"part/a.png": [[-9, -9], [63, -9], [63, 200], [-9, 200]]}))
    mask = FaceSet([tmp_path / "set"]).mask(0)
    assert mask[:, :62].min() == 255, "nothing is shrunk where the picture reaches over the crop"
    assert mask[:, 62:].max() == 0


def test_alpha_channel_says_what_is_picture(tmp_path: Path) -> None:
    alpha = np.zeros((144, 144), np.uint8)
    alpha[30:130, 20:120] = 200
    faces = FaceSet([archive(tmp_path, 1, alpha=alpha)])
    expected = np.zeros((144, 144), np.uint8)
    expected[32:128, 22:118] = 255
    assert np.array_equal(faces.mask(0), expected)
    image, mask = faces.read(0)
    assert image.shape == (144, 144, 3)
    assert image[mask > 0].min() == 255


def test_alpha_of_webp_is_seen(tmp_path: Path) -> None:
    image = np.full((144, 144, 4), 255, np.uint8)
    image[:60, :, 3] = 0
    for name, quality in (("lossy", 80), ("lossless", 101)):
        cv2.imwrite(str(tmp_path / f"{name}.webp"), image, [cv2.IMWRITE_WEBP_QUALITY, quality])
    faces = FaceSet([tmp_path])
    assert len(faces) == 2
    for index in range(2):
        assert faces.mask(index)[:58].max() == 0
        assert faces.mask(index)[62:].min() == 255


@pytest.mark.parametrize("flip", [False, True])
def test_mask_is_moved_with_its_crop(tmp_path: Path, flip: bool) -> None:
    """The crop is white exactly where it is picture, so after any change its mask lies on what is white."""
    faces = FaceSet([archive(tmp_path, 1, {"0.png": BOX})])
    change = Augmentation(shift=6, rotation=20, scale=0.1, brightness=0, contrast=0)
    for draws in (np.array([1, 1, 1, -1, 0, 0]), np.array([-0.7, -1, -0.5, 1, 0, 0]), np.array([0, 0, 1, 0, 0, 0])):
        crop, mask = augment(*faces.masked_picture(0), change, flip, draws)
        white = crop[..., 0] > 127
        assert not (mask > 0)[~white].any()
        grown = cv2.dilate(mask, np.ones((7, 7), np.uint8)) > 0
        assert grown[white].all()
        assert 0.3 < (mask > 0).mean() < 0.9


def test_batches_carry_masks(tmp_path: Path) -> None:
    faces = FaceSet([archive(tmp_path, 4, {f"{n}.png": BOX for n in range(3)})])
    loader = Loader(faces, 4, 1, STILL)
    batch = loader.get(0)
    loader.close()
    assert batch.masks.shape == (4, 128, 128)
    for mask, index in zip(batch.masks.numpy(), batch.index.tolist(), strict=True):
        assert np.array_equal(mask, faces.crop_mask(index))


@pytest.mark.parametrize(
    ("inside", "message"),
    [
        ({"7.png": BOX}, r"faces.inside.json names 7.png, which is no crop of .*faces.tar"),
        ({"0.png": [[0, 0], [9, 0], [9, 9]]}, r"faces.inside.json: 0.png: expected four corners"),
        ({"0.png": [[0, 0], [9, 0], [9, 9], [0, "x"]]}, r"0.png: expected four corners"),
        ({"0.png": [[0, 0], [1e9, 0], [9, 9], [0, 9]]}, r"0.png: expected four corners"),
        ({"0.png": BOX[::-1]}, r"0.png: the corners don't go clockwise"),
        ("{", r"faces.inside.json can't be read as JSON"),
        ("[]", r"faces.inside.json is no object"),
    ],
)  # fmt: skip
def test_wrong_inside_file_is_one_line(tmp_path: Path, inside: object, message: str) -> None:
    with pytest.raises(EdgeError, match=message) as caught:
        FaceSet([archive(tmp_path, 1, inside)])
    assert "\n" not in str(caught.value)


def test_crop_that_is_hardly_picture_is_named(tmp_path: Path) -> None:
    faces = FaceSet([archive(tmp_path, 1, {"0.png": [[100, 100], [140, 100], [140, 140], [100, 140]]})])
    with pytest.raises(EdgeError, match=r"faces.tar: 0.png: its quadrilateral leaves 8% of the crop"):
        faces.mask(0)
    (tmp_path / "faces.inside.json").unlink()
    hidden = FaceSet([archive(tmp_path, 1, alpha=np.zeros((144, 144), np.uint8))])
    with pytest.raises(EdgeError, match=r"faces.tar: 0.png: its alpha channel leaves 0% of the crop"):
        hidden.picture(0)

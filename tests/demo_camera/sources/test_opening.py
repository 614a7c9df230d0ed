"""Pictures, folders and videos are read; what is damaged is refused with a line that says what to do."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from demo_camera.sources import open_source
from edge_stscq._images import read_image
from edge_stscq.errors import EdgeError


@pytest.fixture
def red() -> np.ndarray:
    """A picture of red above and blue below, `[40, 60, 3]` in RGB."""
    image = np.zeros((40, 60, 3), np.uint8)
    image[:20, :, 0] = 220
    image[20:, :, 2] = 220
    return image


def save(path: Path, image: np.ndarray) -> Path:
    assert cv2.imwrite(str(path), image[..., ::-1])
    return path


def test_a_picture_is_rgb(tmp_path: Path, red: np.ndarray) -> None:
    source = open_source(str(save(tmp_path / "red.png", red)))
    (picture,) = source.pictures()
    assert picture.name == "red.png"
    np.testing.assert_array_equal(picture.image, red)


def test_grey_transparent_and_deep_pictures_become_rgb(tmp_path: Path) -> None:
    pictures: dict[str, np.ndarray] = {
        "grey.png": np.full((9, 8), 77, np.uint8),
        "alpha.png": np.full((9, 8, 4), 77, np.uint8),
        "deep.png": np.full((9, 8, 3), 77 * 257, np.uint16),
    }
    for name, image in pictures.items():
        assert cv2.imwrite(str(tmp_path / name), image)
        np.testing.assert_array_equal(read_image(tmp_path / name), np.full((9, 8, 3), 77, np.uint8))


def test_a_folder_is_read_by_name(tmp_path: Path, red: np.ndarray) -> None:
    for name in ("b.png", "a.jpg", ".hidden.png"):
        save(tmp_path / name, red)
    (tmp_path / "notes.txt").write_text("no picture")
    source = open_source(str(tmp_path))
    assert [picture.name for picture in source.pictures()] == ["a.jpg", "b.png"]


def test_a_video_is_read_to_its_end(tmp_path: Path, red: np.ndarray) -> None:
    path = tmp_path / "clip.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, (60, 40))
    assert writer.isOpened()
    for _ in range(4):
        writer.write(red[..., ::-1])
    writer.release()
    pictures = list(open_source(str(path)).pictures())
    assert [picture.name for picture in pictures] == [f"clip.avi picture {i}" for i in range(4)]
    assert np.abs(pictures[3].image.astype(int) - red)[5:15, 5:55].max() < 40


@pytest.mark.parametrize("name", ["grace_hopper", "astronaut"])
@pytest.mark.parametrize("kept", [0, 1, 100, 0.1, 0.9])
def test_a_truncated_picture_is_refused(name: str, kept: float, tmp_path: Path, portrait: dict[str, Path]) -> None:
    data = portrait[name].read_bytes()
    path = tmp_path / portrait[name].name
    path.write_bytes(data[: kept if isinstance(kept, int) else int(kept * len(data))])
    with pytest.raises(EdgeError, match="is damaged or not a picture; give a whole"):
        read_image(path)


def test_a_flipped_byte_in_a_png_is_refused(tmp_path: Path, portrait: dict[str, Path]) -> None:
    data = bytearray(portrait["astronaut"].read_bytes())
    data[5000] ^= 1
    path = tmp_path / "flipped.png"
    path.write_bytes(data)
    with pytest.raises(EdgeError, match=r"flipped\.png is damaged"):
        read_image(path)


@pytest.mark.parametrize("name", ["text.jpg", "text.mp4", "text"])
def test_a_file_that_is_no_picture_is_refused(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_text("no picture\n" * 100)
    with pytest.raises(EdgeError, match="is damaged"):
        list(open_source(str(path)).pictures())


def test_what_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EdgeError, match="source is empty"):
        open_source("")
    with pytest.raises(EdgeError, match="does not exist; give a camera's number"):
        open_source(str(tmp_path / "nowhere.png"))
    with pytest.raises(EdgeError, match="camera 99 cannot be opened"):
        next(open_source("99").pictures())

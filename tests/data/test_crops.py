"""Crops from folders and tars, and everything that isn't a crop."""

import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge_stscq.data import crops
from edge_stscq.data.crops import load_faces, open_crops
from edge_stscq.errors import EdgeError

Write = Callable[[dict[str, bytes]], Path]


def picture(value: int, side: int = 128) -> np.ndarray:
    """RGB picture whose red channel is `value` and whose blue channel is 0."""
    image = np.zeros((side, side, 3), np.uint8)
    image[..., 0] = value
    return image


def png(image: np.ndarray, suffix: str = ".png") -> bytes:
    return cv2.imencode(suffix, image[..., ::-1])[1].tobytes()


def write_tar(path: Path, files: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w") as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def write_folder(path: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(data)
    return path


@pytest.fixture(params=["folder", "tar"])
def write(request: pytest.FixtureRequest, tmp_path: Path) -> Write:
    if request.param == "tar":
        return lambda files: write_tar(tmp_path / "faces.tar", files)
    return lambda files: write_folder(tmp_path / "faces", files)


def test_sorted_names_rgb_order_and_ignored_files(write: Write) -> None:
    source = write({"b.png": png(picture(2)), "sub/a.png": png(picture(1)), "notes.txt": b"x", "._b.png": b"x"})
    loaded = load_faces(source)
    assert loaded.names == ("b", "a")  # by path: "b.png" < "sub/a.png"
    assert loaded.images.shape == (2, 128, 128, 3)
    assert loaded.images.dtype == np.uint8
    assert loaded.images[:, 5, 5].tolist() == [[2, 0, 0], [1, 0, 0]]


def test_training_crops_are_cut_to_their_center(write: Write) -> None:
    image = np.random.default_rng(0).integers(0, 256, (144, 144, 3), np.uint8)
    loaded = load_faces(write({"a.png": png(image)}))
    assert np.array_equal(loaded.images[0], image[8:136, 8:136])


@pytest.mark.parametrize("suffix", [".webp", ".jpg"])
def test_lossy_formats(tmp_path: Path, suffix: str) -> None:
    loaded = load_faces(write_folder(tmp_path / "faces", {"a" + suffix: png(picture(200), suffix)}))
    assert np.abs(loaded.images[0, 64, 64].astype(int) - [200, 0, 0]).max() < 8


def test_count_spreads_over_the_names(write: Write) -> None:
    source = write({f"{i}.png": png(picture(i)) for i in range(6)})
    assert load_faces(source, count=3).names == ("0", "2", "4")
    assert load_faces(source, count=99).names == tuple("012345")
    with pytest.raises(EdgeError, match="at least one"):
        load_faces(source, count=0)


def test_wanted_names(write: Write) -> None:
    source = write({f"{i}.png": png(picture(i)) for i in range(4)})
    assert load_faces(source, names=["3", "1", "1"]).names == ("1", "3")
    with pytest.raises(EdgeError, match="lacks 1 of 2 wanted crops, e.g. 9"):
        load_faces(source, names=["1", "9"])


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not a readable picture"),
        (b"not a picture", "not a readable picture"),
        (png(picture(1, 64)), "64 x 64"),
        (b"\x89PNG" + bytes(crops.MAX_FILE_BYTES), "larger than"),
    ],
)
def test_what_is_no_crop_is_named(write: Write, data: bytes, message: str) -> None:
    with pytest.raises(EdgeError, match=f"bad.png.*{message}"):
        load_faces(write({"a.png": png(picture(1)), "bad.png": data}))


def test_sources_without_faces(tmp_path: Path) -> None:
    text = tmp_path / "faces.tar"
    text.write_text("no tar")
    with pytest.raises(EdgeError, match="neither a folder nor an uncompressed .tar"):
        load_faces(text)
    with pytest.raises(EdgeError, match="does not exist"):
        load_faces(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(EdgeError, match="no WebP, PNG or JPEG"):
        load_faces(tmp_path / "empty")


def test_truncated_tar(tmp_path: Path) -> None:
    source = write_tar(tmp_path / "faces.tar", {"a.png": bytes(2000), "b.png": bytes(2000)})
    source.write_bytes(source.read_bytes()[:3000])
    with pytest.raises(EdgeError, match="faces.tar"):
        load_faces(source)


def test_number_of_faces_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crops, "MAX_FACES", 2)
    source = write_folder(tmp_path / "faces", {f"{i}.png": png(picture(i)) for i in range(3)})
    with pytest.raises(EdgeError, match="--count"):
        load_faces(source)
    assert len(load_faces(source, count=2)) == 2


def test_open_crops_keeps_an_archives_order_and_sorts_folders(tmp_path: Path) -> None:
    """Batches of training depend on it."""
    files = {name: png(picture(1)) for name in ("c.png", "a.png", "sub/b.png", "._a.png")}
    for source, order in (
        (write_tar(tmp_path / "faces.tar", files), ["c.png", "a.png", "sub/b.png"]),
        (write_folder(tmp_path / "faces", files), ["a.png", "c.png", "sub/b.png"]),
    ):
        with open_crops(source, 10_000) as (names, read):
            assert names == order
            assert all(read(name) == files[name] for name in names)


def test_real_crops(shared_data: Path) -> None:
    loaded = load_faces(shared_data / "faces" / "val.tar", count=3)
    assert loaded.images.shape == (3, 128, 128, 3)
    assert loaded.images.std() > 20

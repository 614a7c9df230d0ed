import tarfile
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from edge_stscq.data.loader import Augmentation, FaceSet, Loader, augment
from edge_stscq.errors import EdgeError

STILL = Augmentation(flip=False, shift=0, rotation=0, scale=0, brightness=0, contrast=0)


def test_a_tar_and_a_folder_give_the_same_pictures(pictures: Path, faces: FaceSet, tmp_path: Path) -> None:
    archive = tmp_path / "faces.tar"
    with tarfile.open(archive, "w") as tar:
        for path in sorted(pictures.iterdir()):
            tar.add(path, path.name)
    packed = FaceSet([archive])
    assert len(packed) == len(faces) == 24
    assert [packed.made_of(i) for i in range(24)] == [faces.made_of(i) for i in range(24)]
    assert np.array_equal(packed.crop(3), faces.picture(3)[8:136, 8:136])
    assert np.array_equal(packed.crop(3, flip=True), faces.crop(3)[:, ::-1])


def test_bad_sources_are_named(tmp_path: Path) -> None:
    with pytest.raises(EdgeError, match="does not exist"):
        FaceSet([tmp_path / "none.tar"])
    with pytest.raises(EdgeError, match="no pictures"):
        FaceSet([tmp_path])
    (tmp_path / "x.tar").write_bytes(b"not a tar" * 100)
    with pytest.raises(EdgeError, match="neither a folder nor an uncompressed .tar"):
        FaceSet([tmp_path / "x.tar"])
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "broken.png").write_bytes(b"\x89PNG broken")
    with pytest.raises(EdgeError, match="broken.png is not a readable picture"):
        FaceSet([folder]).picture(0)
    cv2.imwrite(str(folder / "broken.png"), np.zeros((100, 144, 3), np.uint8))
    with pytest.raises(EdgeError, match="144 x 100"):
        FaceSet([folder]).picture(0)


def test_no_change_is_the_canonical_crop(faces: FaceSet) -> None:
    crop, mask = augment(*faces.masked_picture(0), STILL, False, np.ones(6))
    assert np.array_equal(crop, faces.crop(0))
    assert (mask == 255).all()
    flipped, _ = augment(*faces.masked_picture(0), STILL, True, np.ones(6))
    assert np.array_equal(flipped, faces.crop(0, flip=True))


def test_shifts_move_the_picture_by_pixels(faces: FaceSet) -> None:
    picture, mask = faces.masked_picture(0)
    mask[:40] = 0
    change = Augmentation(shift=4, rotation=0, scale=0, brightness=0, contrast=0)
    moved, inside = augment(picture, mask, change, False, np.array([0, 0, 1, -0.5, 0, 0]))
    rows = 40 - 8 - 2
    assert (inside[:rows] == 0).all()
    assert (inside[rows:] == 255).all()
    assert np.array_equal(moved[:-2, 4:], faces.crop(0)[2:, :-4])


def test_batches_depend_on_the_step_alone(faces: FaceSet) -> None:
    first, second = Loader(faces, 4, 7, Augmentation()), Loader(faces, 4, 7, Augmentation())
    in_order = [first.get(step) for step in range(8)]
    later = second.get(5)
    assert torch.equal(later.images, in_order[5].images)
    assert torch.equal(later.index, in_order[5].index)
    epoch = torch.cat([batch.index for batch in in_order[:6]])
    assert sorted(epoch.tolist()) == list(range(24))
    assert not torch.equal(in_order[0].index, in_order[6].index)
    first.close()
    second.close()


def test_processes_share_an_epoch_without_overlap(faces: FaceSet) -> None:
    loaders = [Loader(faces, 4, 7, STILL, rank, 2) for rank in range(2)]
    seen = [int(i) for loader in loaders for step in range(3) for i in loader.get(step).index]
    assert sorted(seen) == list(range(24))
    for loader in loaders:
        loader.close()


def test_too_few_pictures_for_a_batch(faces: FaceSet) -> None:
    with pytest.raises(EdgeError, match="lower the batch size"):
        Loader(faces, 32, 0, STILL)

"""The LFW protocol on scores whose answers are known."""

from pathlib import Path

import numpy as np
import pytest

from edge_stscq.errors import EdgeError
from edge_stscq.evaluation.verification.pairs import Pairs, best_threshold, read_pairs, tar_at_far, verify


def write_pairs(path: Path, folds: int = 3, half: int = 2) -> Path:
    lines = [f"{folds}\t{half}"]
    for fold in range(folds):
        lines += [f"Person_{fold}\t{i + 1}\t{i + 2}" for i in range(half)]
        lines += [f"Person_{fold}\t{i + 1}\tOther_{fold}\t{i + 3}" for i in range(half)]
    path.write_text("\n".join(lines) + "\n")
    return path


def test_read_pairs_names_labels_and_folds(tmp_path: Path) -> None:
    pairs = read_pairs(write_pairs(tmp_path / "pairs.txt"))
    assert len(pairs) == 12
    assert pairs.folds == 3
    assert (pairs.first[0], pairs.second[0]) == ("Person_0_0001", "Person_0_0002")
    assert (pairs.first[2], pairs.second[2]) == ("Person_0_0001", "Other_0_0003")
    assert pairs.same.tolist() == [True, True, False, False] * 3
    assert pairs.fold.tolist() == [0] * 4 + [1] * 4 + [2] * 4


def test_head_takes_whole_folds_only(tmp_path: Path) -> None:
    pairs = read_pairs(write_pairs(tmp_path / "pairs.txt"))
    assert pairs.head(8).folds == 2
    assert len(pairs.head(8)) == 8
    assert pairs.head(12).same.tolist() == pairs.same.tolist()
    for wrong in (0, 4, 6, 13):  # nothing, one fold, a cut fold, more than there is
        with pytest.raises(EdgeError, match=r"use one of \[8, 12\]"):
            pairs.head(wrong)


@pytest.mark.parametrize("text", ["", "hello world\n", "2 1\nA 1 2\nA 1 B 1\nA 1 B 1\nA 1 2\n", "9 99999999\nA 1 2\n"])
def test_wrong_pair_files_are_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "pairs.txt"
    path.write_text(text)
    with pytest.raises(EdgeError, match="pairs"):
        read_pairs(path)


def test_missing_pair_file_names_the_option(tmp_path: Path) -> None:
    with pytest.raises(EdgeError, match="--pairs"):
        read_pairs(tmp_path / "none.txt")


def synthetic(folds: int, half: int) -> Pairs:
    same = np.array(([True] * half + [False] * half) * folds)
    names = tuple(str(i) for i in range(len(same)))
    return Pairs(names, names, same, np.repeat(np.arange(folds), 2 * half))


def test_separable_scores_verify_perfectly() -> None:
    pairs = synthetic(10, 30)
    scores = np.where(pairs.same, 0.8, 0.1) + np.random.default_rng(0).uniform(-0.1, 0.1, len(pairs))
    result = verify(scores, pairs)
    assert (result.accuracy, result.standard_error, result.tar_at_far) == (1.0, 0.0, 1.0)
    assert 0.2 < result.threshold < 0.7


def test_accuracy_is_the_mean_of_held_out_folds() -> None:
    """Two folds of 2 + 2: each one's threshold comes from the other, so a fold that is shifted is judged wrongly."""
    pairs = synthetic(2, 2)
    scores = np.array([0.9, 0.9, 0.1, 0.1, 0.5, 0.9, 0.1, 0.1])
    result = verify(scores, pairs)
    # Fold 0 is all right by the threshold 0.3 of fold 1; fold 1 has one wrong by 0.5 of fold 0, which 0.5 isn't above.
    assert result.accuracy == pytest.approx(0.875)
    assert result.threshold == pytest.approx(0.4)
    assert result.standard_error == pytest.approx(np.std([1.0, 0.75], ddof=1) / np.sqrt(2))


def test_accuracy_of_overlapping_gaussians_is_theoretical() -> None:
    """Two unit normals two apart are told apart with probability Phi(1) = 0.8413."""
    pairs = synthetic(10, 2000)
    scores = np.random.default_rng(1).standard_normal(len(pairs)) + 2 * pairs.same
    result = verify(scores, pairs)
    assert result.accuracy == pytest.approx(0.8413, abs=0.006)
    assert result.threshold == pytest.approx(1.0, abs=0.15)


def test_thresholds_resolve_neighbouring_float32_scores() -> None:
    pairs = synthetic(2, 1)
    low = np.float32(0.7)
    high = np.nextafter(low, np.float32(1))
    assert verify(np.array([high, low, high, low], np.float32), pairs).accuracy == 1.0


def test_best_threshold_takes_the_middle_of_equally_good_ones() -> None:
    assert best_threshold(np.array([0.0, 1.0]), np.array([False, True])) == 0.5
    assert best_threshold(np.array([1.0, 2.0]), np.array([True, True])) < 1.0


@pytest.mark.parametrize(("far", "expected"), [(0.0, 0.25), (0.25, 0.5), (0.5, 0.75), (1.0, 1.0)])
def test_tar_at_far_counts_allowed_false_accepts(far: float, expected: float) -> None:
    scores = np.array([0.9, 0.7, 0.5, 0.1, 0.8, 0.6, 0.4, 0.3])
    same = np.array([True] * 4 + [False] * 4)
    assert tar_at_far(scores, same, far) == expected


def test_scores_that_do_not_fit_the_pairs_are_refused() -> None:
    pairs = synthetic(2, 1)
    with pytest.raises(ValueError, match="finite"):
        verify(np.array([0.1, np.nan, 0.2, 0.3]), pairs)
    with pytest.raises(ValueError, match="4 pairs"):
        verify(np.zeros(3), pairs)


def test_real_pair_list(shared_data: Path) -> None:
    pairs = read_pairs(shared_data / "lfw" / "pairs.txt")
    assert (len(pairs), pairs.folds) == (6000, 10)
    assert pairs.head(1200).folds == 2
    assert len(pairs.names) == 7701

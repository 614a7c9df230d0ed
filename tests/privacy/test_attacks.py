"""The measures of the attacks find what is known to be there, and nothing where nothing is."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("torch", reason="the attackers' networks need the extra train")

from benchmarks.privacy.ablation import attention, told
from benchmarks.privacy.brute_force import BasicLayer, search
from benchmarks.privacy.inversion import most_probable
from benchmarks.privacy.linkage import d_sys, key_reuse, linkage, maximal_linkability
from benchmarks.privacy.pictures import PictureJudge
from benchmarks.privacy.subjects import SUBJECTS, Unprotected, fresh_keys, pair_scores, stored
from demo_camera.sample_portraits import portraits
from edge_stscq._images import read_image
from edge_stscq.codec.model import Codec
from edge_stscq.device.crop import crop_face
from edge_stscq.device.detect import Detector
from edge_stscq.privacy import PolyProtect, RecordKey, RotatedGroups, SlerpFace
from edge_stscq.stream import Codes

Key = Callable[..., RecordKey]
Embeddings = NDArray[np.float32]


def test_measures_are_nought_for_one_distribution_and_one_for_two_apart() -> None:
    random = np.random.default_rng(0)
    one, two = random.standard_normal((2, 100_000))
    assert d_sys(one, two) < 0.01
    assert maximal_linkability(one, two) < 0.02
    assert d_sys(one + 20, two) == pytest.approx(1)
    assert maximal_linkability(one + 20, two) == pytest.approx(1)


def test_measures_are_those_worked_out_by_hand() -> None:
    """Mated scores are 1 in three of four cases, others in one of four: LR is 3 where mated scores are likelier."""
    mated, others = np.array([1.0, 1, 1, 0] * 100), np.array([1.0, 0, 0, 0] * 100)
    assert d_sys(mated, others) == pytest.approx(0.75 * (2 * 3 / (1 + 3) - 1))
    assert maximal_linkability(mated, others) == pytest.approx(np.log2(0.75 + 0.75))


def test_linkage_finds_the_norms_of_slerpface_and_nothing_in_rotated_groups(embeddings: Embeddings) -> None:
    published, ours = linkage(SlerpFace(), embeddings), linkage(RotatedGroups(), embeddings)
    assert published["norms"]["d_sys"] > 0.9
    assert max(found["d_sys"] for found in ours.values()) < 0.15  # 1,800 scores a side


def test_one_key_for_all_links_and_fresh_keys_do_not(embeddings: Embeddings) -> None:
    found = {each["keys"]: each["linked"] for each in key_reuse(RotatedGroups(), embeddings)}
    assert found[1] == 1
    assert found[0] < 0.2


@pytest.mark.parametrize("name", SUBJECTS)
def test_stranger_with_a_key_of_his_own_scores_no_higher_than_with_the_stolen_one(
    name: str, embeddings: Embeddings
) -> None:
    scheme, half = SUBJECTS[name], len(embeddings) // 2
    keys, others = fresh_keys("a", half), fresh_keys("b", half)
    own = pair_scores(scheme, embeddings[:half], keys, embeddings[:half], keys)
    strange = pair_scores(scheme, embeddings[:half], keys, embeddings[half:], others)
    assert own.min() > strange.max()


def test_polynomial_template_is_inverted_with_its_key(embeddings: Embeddings) -> None:
    scheme, (key,) = PolyProtect(4), fresh_keys("a", 1)
    values = stored(scheme, embeddings[:1], [key])[0]
    guess = most_probable(scheme, values, key, np.zeros(128, np.float32), np.eye(128, dtype=np.float32) / 128)
    assert guess @ embeddings[0] > 0.8


def test_parts_of_the_basic_layer_add_up_to_its_embedding(model_dir: Path) -> None:
    codec = Codec.load(model_dir)
    layer, random = BasicLayer(codec), np.random.default_rng(0)
    tokens = random.integers(0, layer.parts.shape[2], (3, codec.config.tokens))
    codes = Codes([0, 1, 1], tokens, len(codec.config.layers))
    sums = np.stack(
        [layer.embed(int(group), row[: layer.count]) for group, row in zip(codes.group, tokens, strict=True)]
    )
    sums /= np.linalg.norm(sums, axis=1, keepdims=True)
    np.testing.assert_allclose(sums, codec.embed(codes, 1), atol=1e-5)


def test_basic_layer_is_found_by_its_embedding(model_dir: Path) -> None:
    codec, random = Codec.load(model_dir), np.random.default_rng(0)
    layer = BasicLayer(codec)
    tokens = random.integers(0, layer.parts.shape[2], (1, layer.count))
    (unit,) = codec.embed(Codes([1], tokens, 1), 1)
    found = [search(layer, group, unit, lambda units: units @ unit) for group in range(len(layer.parts))]
    assert max(score for score, _ in found) > 0.95
    score, nearest = found[1]
    assert codec.embed(Codes([1], [nearest], 1), 1)[0] @ unit == pytest.approx(score, abs=1e-4)


def test_pictures_are_judged_by_who_they_show(model_dir: Path) -> None:
    pytest.importorskip("dlib", reason="the judge of pictures needs the extra bench")
    detector, crops = Detector(), []
    for path in portraits().values():
        picture = read_image(path)
        face = detector.largest(picture)
        assert face is not None
        crops.append(crop_face(picture, face.points))
    people = np.stack(crops)
    judge = PictureJudge(Codec.load(model_dir), people, people[:, :, ::-1], 0.001)
    assert judge.photographs == judge.judge(people)
    assert judge.photographs["person"] == 1
    assert judge.judge(np.roll(people, 1, 0))["person"] < 1
    assert judge.draw(np.eye(2, 128, dtype=np.float32)).shape == (2, 128, 128, 3)


def test_attention_is_compared_on_pairs_that_it_was_not_learned_from(embeddings: Embeddings) -> None:
    noise = np.random.default_rng(1).standard_normal(embeddings.shape).astype(np.float32) * 0.05
    noisy = (embeddings + noise) / np.linalg.norm(embeddings + noise, axis=1, keepdims=True)
    same = np.arange(40) % 4 < 2
    second = np.where(same[:, None], noisy, np.roll(noisy, 4, 0))
    found = {each["attention"]: each for each in attention(embeddings, second, same)}
    assert found.keys() == {"uniform", "energy", "learned"}
    assert min(each["d_prime"] for each in found.values()) > 2


def test_unprotected_scores_are_cosines(embeddings: Embeddings) -> None:
    keys = fresh_keys("a", 3)
    scores = pair_scores(Unprotected(), embeddings[:3], keys, embeddings[1:4], keys)
    np.testing.assert_allclose(scores, np.einsum("nd,nd->n", embeddings[:3], embeddings[1:4]), atol=1e-6)
    assert told(np.array([0.9, 0.8, 0.1, 0.2]), np.array([True, True, False, False]))["accuracy"] == 1


def test_words_that_do_not_hold_are_not_used() -> None:
    root = Path(__file__).resolve().parents[2]
    files = [root / "docs" / "privacy.md", *(root / "edge_stscq" / "privacy").glob("*.py")]
    text = "\n".join(path.read_text() for path in files).lower()
    assert len(files) > 8
    assert not [word for word in ("irreversib", "anonym", "non-invertible", "cancelable") if word in text]

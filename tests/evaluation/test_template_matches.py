"""Thresholds of protected templates: counted over every template and every stranger, under the template's key."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from edge_stscq.codec.model import Codec
from edge_stscq.config.template_thresholds import FILE, TemplateThresholds
from edge_stscq.data.crops import Faces
from edge_stscq.errors import EdgeError
from edge_stscq.evaluation.false_matches import People
from edge_stscq.evaluation.template_matches import _keys, measure_templates
from edge_stscq.privacy import PolyProtect, RotatedGroups, Scheme
from edge_stscq.stream import Codes

PEOPLE = 460


@pytest.fixture(scope="module")
def faces() -> Faces:
    """Two crops of each of ten people, and one of each of the others."""
    names = [f"{person}-{one}" for person in range(PEOPLE) for one in range(2 if person < 10 else 1)]
    return Faces(tuple(names), np.zeros((len(names), 128, 128, 3), np.uint8))


@pytest.fixture(scope="module")
def people(faces: Faces) -> People:
    return People(faces.names, tuple(name.partition("-")[0] for name in faces.names), {})


@pytest.fixture(scope="module")
def codec(people: People) -> Codec:
    """A codec whose embeddings are drawn: those of one person are alike."""
    draw = np.random.default_rng(0)
    centers = draw.standard_normal((PEOPLE, 128))
    found = np.stack([centers[int(one)] for one in people.identity]) + 0.3 * draw.standard_normal(
        (len(people.names), 128)
    )
    unit = (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)
    config = SimpleNamespace(name="drawn", layers=[SimpleNamespace(identity=True)])
    made = SimpleNamespace(
        name="drawn", config=config, frames=SimpleNamespace(model_id=bytes(8)), embed=lambda codes: unit
    )
    return cast(Codec, made)


@pytest.mark.parametrize("scheme", [RotatedGroups(), PolyProtect()])
def test_rates_are_those_of_all_strangers_under_the_keys_of_the_templates(
    scheme: Scheme[Any], faces: Faces, people: People, codec: Codec
) -> None:
    unused = cast(Codes, None)
    found = measure_templates(codec, faces, people, ["drawn"], unused, [scheme])
    limits = found.limits(scheme.name)
    pairs = len(faces) * (len(faces) - 1) - 20
    assert limits.perhaps.measured.pairs == limits.same_person.measured.pairs == found.measured.stranger_pairs == pairs
    assert 0.9e-3 < limits.perhaps.measured.rate <= 1e-3
    assert 0.9e-4 < limits.same_person.measured.rate <= 1e-4
    assert limits.perhaps.same_accepted is not None
    assert limits.perhaps.same_accepted.pairs == 20, "each of ten pairs under either key"
    assert limits.perhaps.same_accepted.rate > 0.9

    unit, keys = codec.embed(unused), _keys(scheme, len(faces))
    above = 0
    for row in range(0, len(unit), 40):  # another way to the same counts
        template = scheme.enroll(unit[row], keys[row])
        scores = [scheme.match(template, other, keys[row]) for other in unit[::40]]
        above += sum(score > limits.perhaps.score for score in scores)
    assert above >= len(unit[::40]), "each with itself"
    assert above - len(unit[::40]) <= 5


def test_thresholds_are_kept_beside_a_model_and_refuse_another_scheme(
    faces: Faces, people: People, codec: Codec, tmp_path: Path
) -> None:
    found = measure_templates(codec, faces, people, ["drawn"], cast(Codes, None), [RotatedGroups()])
    found.save(tmp_path)
    assert TemplateThresholds.load(tmp_path / FILE) == found
    with pytest.raises(EdgeError, match="no thresholds were measured for templates of scheme polyprotect, but for rot"):
        found.limits("polyprotect")
    (tmp_path / FILE).write_bytes((tmp_path / FILE).read_bytes().replace(b'"score"', b'"points"'))
    with pytest.raises(EdgeError, match=r"template-thresholds.json: .*; measure them again with: edge-stscq thresh"):
        TemplateThresholds.load(tmp_path / FILE)
    with pytest.raises(EdgeError, match="cannot read .*nowhere: No such file"):
        TemplateThresholds.load(tmp_path / "nowhere")

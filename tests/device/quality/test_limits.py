"""Limits of the gate from a file and from options, and what is said of wrong ones."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from edge_stscq.device.quality import Limits
from edge_stscq.device.quality.verdict import MEASURES
from edge_stscq.errors import EdgeError


def test_every_measure_has_a_limit_with_a_description() -> None:
    fields = Limits.model_fields
    assert set(fields) == {*MEASURES, "refuse_covered"}
    assert all(field.description for field in fields.values())


def test_file_sets_what_it_names(tmp_path: Path) -> None:
    path = tmp_path / "gate.toml"
    path.write_text('sharpness = 50\nhead_pose_yaw = "off"\nrefuse_covered = true\n')
    limits = Limits.load(path)
    assert limits == Limits(sharpness=50, head_pose_yaw=None, refuse_covered=True)
    assert limits.detector_score == Limits().detector_score


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"sharpnes = 5", "no limit is called 'sharpnes'; detector_score"),
        (b"second_look = 2", "second_look should be less than or equal to 1, not 2"),
        (b'sharpness = "no"', "'no'; give a number in range, or 'off'"),
        (b"sharpness = nan", "should be a finite number"),
        (b"[sharpness]\nleast = 3", "give a number in range, or 'off'"),
        (b"sharpness = ", "is not TOML"),
        (b"\xff\xfe", "is not TOML"),
    ],
)
def test_wrong_file_is_refused_in_one_line(content: bytes, words: str, tmp_path: Path) -> None:
    path = tmp_path / "gate.toml"
    path.write_bytes(content)
    with pytest.raises(EdgeError, match=r"gate\.toml") as raised:
        Limits.load(path)
    assert words in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("path", ["absent.toml", "."])
def test_file_that_cannot_be_read_is_refused(path: str, tmp_path: Path) -> None:
    with pytest.raises(EdgeError, match="cannot read the limits .*; give a TOML file"):
        Limits.load(tmp_path / path)


def test_options_change_limits_one_by_one() -> None:
    limits = Limits(sharpness=10).changed("second_look=0.7", "upright = off", "refuse_covered=true")
    assert limits == Limits(sharpness=10, second_look=0.7, upright=None, refuse_covered=True)


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("sharpness", "'sharpness' sets no limit; write NAME=VALUE"),
        ("sharp=3", "no limit is called 'sharp'"),
        ("inter_eye_distance=-1", "greater than or equal to 0, not '-1'"),
        ("refuse_covered=perhaps", "not 'perhaps'"),
    ],
)
def test_wrong_option_is_refused_in_one_line(option: str, words: str) -> None:
    with pytest.raises(EdgeError) as raised:
        Limits().changed(option)
    assert words in str(raised.value)
    assert "\n" not in str(raised.value)


def test_limits_are_frozen() -> None:
    with pytest.raises(ValidationError):
        Limits().sharpness = 3  # type: ignore[misc]

"""The benchmark of the capture loop runs, counts and adds up. How long anything takes is not asserted."""

import json
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from demo_camera.speed import SAMPLES, SCENES, STAGES, CameraReport, Memory, StageClock, drawn, measure
from edge_stscq._images import read_image
from edge_stscq.bundle import open_bundle
from edge_stscq.cli.bench import camera
from edge_stscq.errors import EdgeError


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few different pictures, and none in 4K."""
    monkeypatch.setattr("demo_camera.speed._MOVES", 2)
    monkeypatch.setattr("demo_camera.speed.SCENES", tuple((name, (640, 480), *rest) for name, _, *rest in SCENES))


@pytest.mark.usefixtures("small")
def test_every_scene_is_timed_by_stages_and_memory_is_watched(sums_bundle: Path) -> None:
    app = typer.Typer()
    app.command()(camera)
    words = ["--bundle", str(sums_bundle), "--pictures", "2", "--frames", "20"]
    done = CliRunner().invoke(app, [*words, "--json"], catch_exceptions=False)
    report = CameraReport.model_validate(json.loads(done.stdout))
    near, seldom, empty, large, _ = report.scenes
    assert {(scene.width, scene.height) for scene in report.scenes} == {(640, 480)}
    assert (near.passed, seldom.passed, empty.passed, large.passed) == (1, 1, 0, 1)
    assert near.stages.keys() == large.stages.keys()
    assert near.stages.keys() >= {"read", "detect", "align", "judge", "rest"}
    assert near.stages.keys() <= set(STAGES)
    assert empty.stages.keys() == {"read", "detect", "rest"}
    assert all(taken.median_ms > 0 for stage, taken in near.stages.items() if stage != "rest")
    assert near.stages["rest"].median_ms >= 0
    assert len(report.memory.resident_mib) == SAMPLES
    assert min(report.memory.resident_mib) > 1


@pytest.mark.usefixtures("small")
def test_people_are_shown_a_table(sums_bundle: Path) -> None:
    app = typer.Typer()
    app.command()(camera)
    words = ["--bundle", str(sums_bundle), "--pictures", "2", "--frames", "20"]
    done = CliRunner().invoke(app, words, catch_exceptions=False)
    assert "frames a second" in done.stdout
    assert "after 20 frames" in done.stdout


@pytest.mark.usefixtures("small")
def test_portraits_without_a_face_are_refused_and_threads_are_given_back(sums_bundle: Path, tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "grey.png"), np.full((90, 80, 3), 128, np.uint8))
    before = cv2.getNumThreads()
    with pytest.raises(EdgeError, match="no face passed the gate in 2 pictures"):
        measure(open_bundle(sums_bundle), tmp_path / "grey.png", pictures=2, frames=20)
    assert cv2.getNumThreads() == before


def test_parts_of_a_loop_are_timed_and_answer_as_ever() -> None:
    class Part:
        limit = 3

        def work(self, times: int, *, more: int = 0) -> int:
            until = time.process_time() + 0.001
            while time.process_time() < until:
                pass
            return times + more

    clock = StageClock()
    part = clock.timed(Part(), "work")
    assert (part.work(1, more=2), part.limit) == (3, 3)
    once = clock.spent["work"]
    assert once >= 0.001
    part.work(1)
    assert clock.spent["work"] > once


def test_growth_counts_from_the_second_reading() -> None:
    assert Memory(frames=20, resident_mib=(1, 100, 101, 104.5)).growth_mib == 4.5


def test_scenes_are_of_their_size_and_differ(portrait: dict[str, Path]) -> None:
    for face in (None, read_image(portrait["astronaut"])):
        pictures = [np.asarray(cv2.imdecode(np.frombuffer(file, np.uint8), 1)) for file in drawn((320, 240), face)]
        assert {picture.shape for picture in pictures} == {(240, 320, 3)}
        assert len({picture.tobytes() for picture in pictures}) == len(pictures)

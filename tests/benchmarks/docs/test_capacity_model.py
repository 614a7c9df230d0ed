"""The page's figures are the script's, and the script's follow from its inputs."""

from dataclasses import replace
from pathlib import Path

from benchmarks.docs.capacity_model import Assumptions, Measured, measured, needs, table

PAGE = Path(__file__).parents[3] / "docs" / "scale.md"


def test_the_page_shows_what_the_script_prints() -> None:
    assert table(Assumptions(), measured()) in PAGE.read_text()


def test_a_case_that_can_be_reckoned_by_hand() -> None:
    given = Assumptions(
        cameras=86_400, visits_per_day=5, peak=2, frames_per_request=4, request_bytes=133, looked_at=0.5, ingest_rate=5,
        gpu_rate=4, load=0.5, row_bytes=60, retention_days=2, index_gib=1,
    )  # fmt: skip
    rows = {row.letter: row.value for row in needs(given, Measured(frame_bytes=40, decode_ms=250, faces_per_visit=2))}
    assert (rows["B"], rows["C"], rows["D"]) == ("10", "20", "5")
    assert (rows["F"], rows["H"]) == ("90.0", "0.9 kB")
    assert (rows["I"], rows["J"], rows["K"], rows["L"], rows["M"]) == ("8", "10", "4.0", "5", "5")
    assert rows["P"] == f"{864_000 * 100 / 2**30:,.1f} GiB"
    assert (rows["T"], rows["U"]) == (f"${8 * 0.04 * 730:,.0f}", f"${5 * 1.5 * 730:,.0f}")


def test_twice_the_cameras_send_twice_the_same_frames() -> None:
    once, twice = (
        {row.letter: row.value for row in needs(replace(Assumptions(), cameras=cameras), measured())}
        for cameras in (1_000_000, 2_000_000)
    )
    assert 2 * int(once["A"].replace(",", "")) == int(twice["A"].replace(",", ""))
    assert once["E"] == twice["E"]

"""Progress that the commands draw while they work."""

from io import StringIO

from rich.console import Console

from edge_stscq.cli.ui import training_bars


def test_training_bars_show_progress_info_and_lines() -> None:
    drawn = StringIO()
    with training_bars(Console(file=drawn, force_terminal=True, width=120)) as reporter:
        reporter.say("precision: float32, as asked")
        advance = reporter.task("student", total=20, done=5)
        advance(1, "cosine 0.93")
        advance()
    lines = drawn.getvalue()
    assert "precision: float32, as asked" in lines
    assert "student" in lines
    assert "7/20" in lines
    assert "cosine 0.93" in lines, "it stays until there is another"

"""No figure stands in a table of the documents that is not in a committed result."""

from pathlib import Path

import pytest

from benchmarks.docs.tables import ROOT, TABLES, documents, fill
from edge_stscq.errors import EdgeError


@pytest.mark.parametrize("path", documents(), ids=lambda path: str(path.relative_to(ROOT)))
def test_tables_are_what_the_results_say(path: Path) -> None:
    text = path.read_text()
    assert fill(text) == text, "run: python -m benchmarks.docs.tables"


def test_every_table_is_used() -> None:
    texts = "".join(path.read_text() for path in documents())
    assert [name for name in TABLES if f"<!-- table: {name} -->" not in texts] == []


def test_a_changed_figure_is_put_right() -> None:
    text = (ROOT / "README.md").read_text()
    assert fill(text.replace("99.4 ±", "99.9 ±")) == text


def test_an_unknown_table_is_refused() -> None:
    with pytest.raises(EdgeError, match=r"no table is called 'speed'; there are .*verification"):
        fill("<!-- table: speed -->\n<!-- end of table -->")

"""The parity of bundles as one self-contained page: no script, no network, readable on a phone and in the dark."""

import base64
from collections.abc import Sequence
from datetime import datetime
from importlib.resources import files
from xml.etree.ElementTree import Element

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_stscq.evaluation import parity_plots as plots
from edge_stscq.evaluation.parity import Difference, Judged, Parity
from edge_stscq.evaluation.parity_markup import html, node
from edge_stscq.evaluation.parity_matrix import Matrix
from edge_stscq.evaluation.report import accuracy_cell, agreement_rows, comparisons, decibels, percent, picture_rows
from edge_stscq.evaluation.thresholds import Check

AMPLIFIED = 8
"""Factor by which the difference of two pictures is shown."""

_WORDS = (
    ("token", "One codebook index. Two tokens are equal when group and index are; another group is another codebook."),
    ("artefact, quantised graph, student",
     "The file that the device runs; the quantised graph it was lowered from, run in torch; the full-precision encoder."
     " Artefact against quantised graph asks whether the runtime is right, quantised graph against student whether the "
     "quantisation is good, artefact against student what a user gets."),
    ("margin", "How clear the full-precision choice was: squared distance of the second-nearest codeword minus that of "
     "the nearest, relative to the spread of the codebook. Flips belong among the nearest ties."),
    ("flip, distance", "A token that differs although the groups agree, and how far apart its two codewords are; 1 is "
     "the distance of two random entries of that codebook."),
    ("identity cosine", "Cosine of a recogniser's embeddings of the two decoded faces: 1 is the same face."),
)  # fmt: skip


def page(judged: Sequence[Judged], matrix: Matrix | None, bar: str, date: datetime) -> bytes:
    """The page in UTF-8.

    Args:
        judged: bundles of one model on the same faces.
        matrix: of more than one bundle.
        bar: where the thresholds come from.
        date: of the report.
    """
    reports = [one.report for one in judged]
    first, day = reports[0], f"{date:%Y-%m-%d}"
    title = f"Parity of {first.model} {first.model_id}, {day}: {', '.join(map(_name, reports))}"
    style = files("edge_stscq.evaluation").joinpath("parity_page.css").read_text()
    head = node(
        "head",
        node("meta", charset="utf-8"),
        node("meta", name="viewport", content="width=device-width, initial-scale=1"),
        node("title", title),
        node("style", style),
    )
    good = sum(report.passed for report in reports)
    passed = good == len(reports) and (matrix is None or matrix.passed)
    body = [
        node(
            "header",
            node("h1", f"Is the device still the model? Parity of {first.model}"),
            node("p", f"Model {first.model_id} · {first.pictures.faces} faces from {first.faces} · {day}"),
            node("p", _verdict(passed), f" {good} of {len(reports)} bundles reach every threshold."),
            node("p", f"Thresholds: {bar}.", class_="pale"),
        ),
        node("section", *map(_card, reports), class_="cards"),
    ]
    if matrix is not None:
        body.append(_matrix(matrix))
    if first.accuracy is not None:
        body.append(_accuracy(reports))
    body += [_bundle(one) for one in judged]
    body.append(node("footer", node("h2", "Words"), _definitions()))
    return html(node("html", head, node("body", *body), lang="en"))


def _name(report: Parity) -> str:
    return f"{report.target} {report.precision}"


def _verdict(passed: bool) -> Element:
    mark, class_ = ("✓ passed", "passed") if passed else ("✗ failed", "failed")
    return node("span", mark, class_=f"verdict {class_}")


def _card(report: Parity) -> Element:
    return node(
        "article",
        node("h2", _name(report), _verdict(report.passed)),
        node("p", f"{report.bundle} on {report.executor}", class_="pale"),
        _checks(report.checks),
        class_="card",
    )


def _checks(checks: Sequence[Check]) -> Element:
    rows = []
    for check in checks:
        mark = node("td", "✓" if check.passed else "✗", class_="passed" if check.passed else "failed",
                    aria_label="passed" if check.passed else "failed")  # fmt: skip
        bound = "≥" if check.at_least else "≤"
        rows.append((check.figure, f"{check.value:.4f}", f"{bound} {check.limit:g}", mark))
    return _table(("figure", "measured", "asked", ""), rows)


def _matrix(matrix: Matrix) -> Element:
    numbered = [f"{number} · {name}" for number, name in enumerate(matrix.bundles, 1)]
    rows = [(name, *map(percent, row)) for name, row in zip(numbered, matrix.tokens, strict=True)]
    headings = ("equal tokens", *(str(number) for number, _ in enumerate(matrix.bundles, 1)))
    parts = [node("h2", "Do the artefacts agree with each other?"), _wide(_table(headings, rows), "Equal tokens")]
    if matrix.checks:
        parts += [node("h3", "Artefacts of the same precision"), _wide(_checks(matrix.checks), "Artefacts, checked")]
    return node("section", *parts)


def _accuracy(reports: Sequence[Parity]) -> Element:
    """One row a layer and way to compare, one column a bundle."""
    found = [report.accuracy for report in reports if report.accuracy is not None]
    rows: list[Sequence[str | Element]] = []
    for same in zip(*(accuracy.rows for accuracy in found), strict=True):
        cells = [
            node("td", accuracy_cell(row.device), node("div", f"lost {100 * row.lost:+.2f}", class_="pale"))
            for row in same
        ]
        rows.append((f"{same[0].layer}, {same[0].compared}", accuracy_cell(same[0].full), *cells))
    headings = ("layer, compared by", "student", *map(_name, reports))
    caption = f"Verification accuracy in % ± standard error, and points lost; {found[0].protocol}"
    return node("section", node("h2", "Is it still the same person?"), _wide(_table(headings, rows, caption), caption))


def _bundle(one: Judged) -> Element:
    report, columns = one.report, comparisons(one.report)
    lines = zip(*(agreement_rows(agreement, report.layer_names) for _, agreement in columns), strict=True)
    rows = [(cells[0][0], *(value for _, value in cells)) for cells in lines]
    parts = [
        node("h2", _name(report)),
        node("p", f"{report.bundle} on {report.executor}", class_="pale"),
        node("div", *_figures(report), class_="plots"),
        node("h3", "Agreement"),
        _wide(_table(("share of equal tokens", *(what for what, _ in columns)), rows), "Agreement"),
        node("h3", "Decoded faces, artefact against student"),
        _wide(_table(("figure", "value"), picture_rows(report)), "Decoded faces"),
    ]
    if len(one.portraits):
        parts += [
            node("h3", f"The {len(one.portraits)} least alike of the faces whose tokens differ"),
            node("p", f"diff.: student against artefact, {AMPLIFIED} times amplified", class_="pale"),
            node("div", *map(_face, report.pictures.worst, one.portraits), class_="faces"),
        ]
    return node("section", *parts)


def _figures(report: Parity) -> list[Element]:
    columns = comparisons(report)
    first = 3 - len(columns)  # an fp32 artefact has only the last comparison; it keeps its colour
    keys: list[Element | str] = []
    for at, (what, _) in enumerate(columns, first):
        keys += [node("span", class_=f"key series{at}"), what]
    drawn: list[tuple[Element, list[Element | str]]] = [
        (
            plots.positions(report.device, report.layer_names, report.layer_ends),
            ["Equal tokens by position, artefact against student"],
        ),
        (plots.margins(columns, first), ["Equal tokens by margin:", *keys]),
    ]
    if report.device.flip_distances is not None:
        caption = "How far flips go, artefact against student"
        drawn.append((plots.distances(report.device.flip_distances), [caption]))
    return [node("figure", picture, node("figcaption", *caption)) for picture, caption in drawn]


def _face(difference: Difference, portraits: NDArray[np.uint8]) -> Element:
    original, full, device = portraits
    apart = np.abs(full.astype(np.int16) - device) * AMPLIFIED
    shown = (
        ("original", original),
        ("student", full),
        ("artefact", device),
        (f"diff. × {AMPLIFIED}", np.minimum(apart, 255).astype(np.uint8)),
    )
    tokens = f"{difference.tokens} tokens differ" if difference.same_group else "another group"
    psnr = "the same picture" if difference.psnr is None else f"{decibels(difference.psnr)} dB"
    caption = f"{difference.face}: identity {difference.identity:.3f}, {psnr}, {tokens}"
    tiles = [node("div", _image(image, f"{difference.face}: {what}"), what) for what, image in shown]
    return node("figure", node("div", *tiles, class_="four"), node("figcaption", caption))


def _image(image: NDArray[np.uint8], alt: str) -> Element:
    _, data = cv2.imencode(".png", image[..., ::-1])
    height, width = image.shape[:2]
    source = "data:image/png;base64," + base64.b64encode(data.tobytes()).decode()
    return node("img", src=source, alt=alt, width=width, height=height)


def _table(headings: Sequence[str], rows: Sequence[Sequence[str | Element]], caption: str = "") -> Element:
    """Rows whose first cell is their heading; two spaces before it set it in."""
    head = node("thead", node("tr", *(node("th", heading, scope="col") for heading in headings)))
    body = []
    for first, *cells in rows:
        name = str(first)
        style = {"class_": "indented"} if name.startswith("  ") else {}
        heading = node("th", name.strip(), scope="row", **style)
        body.append(node("tr", heading, *(node("td", cell) if isinstance(cell, str) else cell for cell in cells)))
    title = [node("caption", caption)] if caption else []
    return node("table", *title, head, node("tbody", *body))


def _wide(table: Element, name: str) -> Element:
    """A table that scrolls by itself on a narrow screen, with the keyboard too."""
    return node("div", table, class_="wide", role="region", aria_label=name, tabindex=0)


def _definitions() -> Element:
    parts = []
    for word, meaning in _WORDS:
        parts += [node("dt", word), node("dd", meaning)]
    return node("dl", *parts)

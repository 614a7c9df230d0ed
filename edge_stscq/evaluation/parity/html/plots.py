"""The plots of the parity page as SVG, small enough for a phone and coloured by the page's style sheet.

Shares of equal tokens are bars that hang from the 100 % line: their length is what was lost, so they may be compared
although the axis does not begin at zero.
"""

from collections.abc import Sequence
from itertools import pairwise
from math import ceil
from xml.etree.ElementTree import Element

from edge_stscq.evaluation.parity.agreement import DISTANCE_BARS, DISTANCE_STEP, Agreement, FlipDistances
from edge_stscq.evaluation.parity.html.markup import node

WIDTH, HEIGHT = 420, 250
_LAYER_COLORS, _LETTER = 4, 7
"""Colours of layers in the style sheet, taken in turn, and the pixels of a letter: a narrow layer is not labelled."""
LEFT, RIGHT, TOP, BOTTOM = 56, 414, 26, 206
QUARTERS = ("nearest ties", "2nd quarter", "3rd quarter", "clearest")


def positions(agreement: Agreement, layer_names: Sequence[str], layer_ends: Sequence[int]) -> Element:
    """Share of equal tokens at each position, coloured by layer."""
    values = agreement.positions
    low = min(values)
    scale = _Scale(1 - low)
    step = (RIGHT - LEFT) / len(values)
    marks = []
    for layer, (name, (start, end)) in enumerate(zip(layer_names, pairwise((0, *layer_ends)), strict=True)):
        class_ = f"layer{layer % _LAYER_COLORS}"
        for at in range(start, end):
            tip = f"position {at}, {name}: {100 * values[at]:.2f} %"
            marks.append(scale.bar(LEFT + at * step, step, values[at], class_, tip))
        if len(name) * _LETTER <= (end - start) * step:
            middle = LEFT + step * (start + end) / 2
            marks.append(_text(middle, TOP - 8, name, class_=class_, text_anchor="middle"))
    ticks = [
        _text(LEFT + step * (at + 0.5), BOTTOM + 18, str(at), text_anchor="middle") for at in (0, *layer_ends[:-1])
    ]
    ticks += [_text(RIGHT, BOTTOM + 18, str(len(values) - 1), text_anchor="end")]
    label = f"Equal tokens by position: least {100 * low:.2f} % at position {values.index(low)}, the rest up to "
    return _plot(
        f"{label}{100 * max(values):.2f} %", scale.axis() + marks + ticks + [_caption("position of the token")]
    )


def margins(comparisons: Sequence[tuple[str, Agreement]], series: int) -> Element:
    """Share of equal tokens by how clear the choice was, one bar for each comparison in colours from `series` on."""
    known = [bucket.tokens for _, agreement in comparisons for bucket in agreement.margins if bucket.tokens is not None]
    scale = _Scale(1 - min(known, default=1.0))
    wide = (RIGHT - LEFT) / len(QUARTERS)
    step = 0.8 * wide / len(comparisons)
    marks, said = [], []
    for quarter, name in enumerate(QUARTERS):
        left = LEFT + (quarter + 0.1) * wide
        marks.append(_text(left + 0.4 * wide, BOTTOM + 18, name, text_anchor="middle"))
        for at, (what, agreement) in enumerate(comparisons):
            share = agreement.margins[quarter].tokens
            if share is not None:
                tip = f"{name}, {what}: {100 * share:.2f} %"
                marks.append(scale.bar(left + at * step, step, share, f"series{series + at}", tip))
                said.append(tip)
    return _plot(
        "Equal tokens by margin. " + "; ".join(said), scale.axis() + marks + [_caption("full-precision margin")]
    )


def distances(flips: FlipDistances) -> Element:
    """Distances from the right codeword of each flip to the wrong one."""
    step, most = (RIGHT - LEFT) / DISTANCE_BARS, max(flips.histogram)
    marks = []
    for at, count in enumerate(flips.histogram):
        height = (BOTTOM - TOP) * count / most
        beyond = f"{at * DISTANCE_STEP:.1f} and more"
        span = beyond if at == DISTANCE_BARS - 1 else f"{at * DISTANCE_STEP:.1f} to {(at + 1) * DISTANCE_STEP:.1f}"
        marks.append(_bar(LEFT + at * step, BOTTOM - height, step, height, "series2", f"{span}: {count} flips"))
    ends = [(0.0, "0"), (0.5, "0.5"), (1.0, "1"), (1.5, "1.5")]
    axis = [_text(LEFT + x / DISTANCE_STEP * step, BOTTOM + 18, name, text_anchor="middle") for x, name in ends]
    one = LEFT + step / DISTANCE_STEP
    axis += [
        _line(LEFT, BOTTOM, RIGHT, BOTTOM),
        _line(one, TOP, one, BOTTOM, stroke_dasharray="3 3"),
        _text(one + 6, TOP + 10, "two random entries"),
        _text(LEFT - 8, TOP + 4, str(most), text_anchor="end"),
        _text(LEFT - 8, BOTTOM, "0", text_anchor="end"),
        _text(LEFT, TOP - 8, "flips"),
    ]
    label = (
        f"Distances of the flips' codewords: median {flips.median:.2f}, 95 % below {flips.p95:.2f}, "
        f"largest {flips.largest:.2f}, where 1 is the distance of two random entries"
    )
    return _plot(label, [*axis, *marks, _caption("distance of the two codewords")])


class _Scale:
    """A vertical axis that begins at 100 % and holds a loss of up to `most`."""

    def __init__(self, most: float) -> None:
        steps = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.25)
        self._step = next(step for step in steps if 5 * step >= most)
        self._rows = max(1, ceil(round(most / self._step, 6)))
        self._pixels = (BOTTOM - TOP) / (self._rows * self._step)

    def bar(self, left: float, width: float, share: float, class_: str, tip: str) -> Element:
        return _bar(left, TOP, width, (1 - share) * self._pixels, class_, tip)

    def axis(self) -> list[Element]:
        marks = []
        for row in range(self._rows + 1):
            lost = row * self._step
            y = TOP + lost * self._pixels
            marks += [_line(LEFT, y, RIGHT, y), _text(LEFT - 8, y + 4, f"{100 - 100 * lost:g} %", text_anchor="end")]
        return marks


def _plot(label: str, marks: Sequence[Element]) -> Element:
    return node("svg", *marks, viewBox=f"0 0 {WIDTH} {HEIGHT}", role="img", aria_label=label)


def _bar(left: float, top: float, width: float, height: float, class_: str, tip: str) -> Element:
    place = {"x": f"{left + 0.1 * width:.2f}", "y": f"{top:.2f}", "width": f"{0.8 * width:.2f}"}
    return node("rect", node("title", tip), **place, height=f"{height:.2f}", class_=class_)


def _line(x1: float, y1: float, x2: float, y2: float, **style: str) -> Element:
    return node("line", x1=f"{x1:.2f}", y1=f"{y1:.2f}", x2=f"{x2:.2f}", y2=f"{y2:.2f}", **style)


def _text(x: float, y: float, words: str, **style: str) -> Element:
    return node("text", words, x=f"{x:.2f}", y=f"{y:.2f}", **style)


def _caption(words: str) -> Element:
    return _text((LEFT + RIGHT) / 2, HEIGHT - 8, words, text_anchor="middle")

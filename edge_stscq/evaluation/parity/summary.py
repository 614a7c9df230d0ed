"""Parity in words and numbers: the rows that the terminal's tables and the HTML page both show."""

from collections.abc import Sequence

from edge_stscq.evaluation.parity.agreement import Agreement
from edge_stscq.evaluation.parity.compare import Parity
from edge_stscq.evaluation.verification.pairs import Verification


def comparisons(report: Parity) -> list[tuple[str, Agreement]]:
    """The comparisons of a report and what is compared: three, or one of an fp32 artefact."""
    if report.quantisation is None:
        return [("artefact vs student", report.device)]
    return [
        ("artefact vs quantised graph", report.runtime),
        ("quantised graph vs student", report.quantisation),
        ("artefact vs student", report.device),
    ]


def agreement_rows(a: Agreement, layer_names: Sequence[str]) -> list[tuple[str, str]]:
    """Rows of an agreement: names and values."""
    layers = zip(layer_names, a.layers, strict=True)
    quartiles = ("nearest ties", "2nd quarter", "3rd quarter", "clearest")
    far, low = a.flip_distances, min(a.positions)
    excesses = [(e, name) for name, e in zip(layer_names, a.excess_distortion, strict=True) if e is not None]
    excess, layer = max(excesses, key=lambda each: each[0])  # the first of several
    return [
        ("tokens", percent(a.tokens)),
        *((f"  {name} layer", percent(value)) for name, value in layers),
        ("  worst position", f"{percent(low)} (at {a.positions.index(low)})"),
        ("tokens, groups equal", percent(a.tokens_in_same_group)),
        *((f"  margin: {q}", percent(m.tokens)) for q, m in zip(quartiles, a.margins, strict=True)),
        ("  margin > flips' median", percent(a.clear_tokens)),
        ("groups", percent(a.groups)),
        ("excess distortion, worst layer", f"{percent(excess)} ({layer})"),
        ("whole codes", percent(a.faces_equal)),
        ("flips", str(a.flips)),
        ("  distance: mean, median", "-" if far is None else f"{far.mean:.2f}, {far.median:.2f}"),
        ("  distance: 95 %, largest", "-" if far is None else f"{far.p95:.2f}, {far.largest:.2f}"),
    ]


def picture_rows(report: Parity) -> list[tuple[str, str]]:
    """Rows of decoded faces: names and values."""
    p = report.pictures
    return [
        ("PSNR in dB, all faces", decibels(p.psnr)),
        ("PSNR in dB, worst face", decibels(p.psnr_worst)),
        (f"identity cosine ({p.embedded_by}), mean", f"{p.identity:.4f}"),
        ("identity cosine, 95 % of faces reach", f"{p.identity_p05:.4f}"),
        ("identity cosine, worst face", f"{p.identity_worst:.4f}"),
    ]


def percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.2f} %"


def decibels(value: float | None) -> str:
    return "identical" if value is None else f"{value:.2f}"


def accuracy_cell(value: Verification | None) -> str:
    return "-" if value is None else f"{100 * value.accuracy:.2f} ± {100 * value.standard_error:.2f}"

"""The picture of a rate report: accuracy against bytes on a logarithmic axis."""

import io

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from edge_stscq.evaluation.rate.curves import Counted, Curve, RateReport, hull


def plot(report: RateReport) -> bytes:
    """PNG with two panels: all bytes that are sent, and payload alone."""
    figure = Figure(figsize=(13, 6.8), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    _panel(left, report, "container", "bytes a face, as sent (ours: a frame in a stream)")
    _panel(right, report, "payload", "bytes a face, payload alone")
    left.set_ylabel(f"verification accuracy of decoded faces, % ({report.judge})")
    figure.legend(*right.get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize="small")
    figure.suptitle(report.protocol, fontsize="medium")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return buffer.getvalue()


def _panel(axes: Axes, report: RateReport, counted: Counted, label: str) -> None:
    axes.axhline(100 * report.originals, color="0.6", linestyle=":", label="originals")
    for index, curve in enumerate(report.peers):
        colour = f"C{index % 10}"
        sizes, accuracies = hull(curve.points, counted)
        axes.plot(np.exp(sizes), 100 * accuracies, color=colour, label=f"{curve.codec}: {curve.version}")
        axes.scatter(*_places(curve, counted), color=colour, s=8, alpha=0.5)
    for curve in report.published:
        axes.scatter(*_places(curve, counted), marker="s", facecolors="none", edgecolors="0.4", s=28,
                     label=f"{curve.codec}: {curve.version}")  # fmt: skip
    errors = [100 * point.standard_error for point in report.ours.points]
    axes.errorbar(*_places(report.ours, counted), yerr=errors, color="black", marker="o", linewidth=2, capsize=3,
                  label=f"edge-stscq: {report.ours.version}")  # fmt: skip
    axes.set_xscale("log")
    axes.set_xlabel(label)
    axes.set_xlim(10, 1200)
    axes.set_ylim(50, 100)
    ticks = [10, 16, 32, 64, 128, 256, 512, 1024]
    axes.set_xticks(ticks, labels=[str(tick) for tick in ticks])
    axes.minorticks_off()
    axes.grid(alpha=0.3)


def _places(curve: Curve, counted: Counted) -> tuple[list[float], list[float]]:
    """Bytes and accuracies in percent of all points."""
    return [point.size(counted) for point in curve.points], [100 * point.accuracy for point in curve.points]

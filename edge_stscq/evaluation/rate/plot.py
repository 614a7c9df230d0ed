"""The picture of a rate report: accuracy against bytes on a logarithmic axis.

Figures that others published were measured on other faces by another judge. They have a panel and an axis of their own:
their height says nothing beside ours.
"""

import io

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from edge_stscq.evaluation.rate.curves import Counted, Curve, RateReport, hull


def plot(report: RateReport) -> bytes:
    """PNG with panels of bytes as sent and of payload alone, and one of published figures if there are any."""
    figure = Figure(figsize=(18 if report.published else 13, 6.8), layout="constrained")
    if report.published:
        grid = figure.add_gridspec(1, 3, width_ratios=(2, 2, 1))
        left, published = figure.add_subplot(grid[0]), figure.add_subplot(grid[2])
        right = figure.add_subplot(grid[1], sharey=left)
        _published(published, report)
    else:
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
        color = f"C{index % 10}"
        sizes, accuracies = hull(curve.points, counted)
        axes.plot(np.exp(sizes), 100 * accuracies, color=color, label=f"{curve.codec}: {curve.version}")
        axes.scatter(*_places(curve, counted), color=color, s=8, alpha=0.5)
    errors = [100 * point.standard_error for point in report.ours.points]
    axes.errorbar(*_places(report.ours, counted), yerr=errors, color="black", marker="o", linewidth=2, capsize=3,
                  label=f"edge-stscq: {report.ours.version}")  # fmt: skip
    axes.set_ylim(50, 100)
    _scale(axes, label)


def _published(axes: Axes, report: RateReport) -> None:
    """Figures of others, on their own axis."""
    for curve in report.published:
        axes.scatter(*_places(curve, "payload"), marker="s", s=28)
    axes.set_ylabel("accuracy as published, %; not the axis of the other panels")
    lines = [f"{curve.codec}\n{curve.version}".replace(", ", "\n") for curve in report.published]
    axes.set_title("\n".join(["other faces, other judge", *lines]), fontsize="small")
    _scale(axes, "bytes a face, payload alone")


def _scale(axes: Axes, label: str) -> None:
    axes.set_xscale("log")
    axes.set_xlabel(label)
    axes.set_xlim(10, 1200)
    ticks = [10, 16, 32, 64, 128, 256, 512, 1024]
    axes.set_xticks(ticks, labels=[str(tick) for tick in ticks])
    axes.minorticks_off()
    axes.grid(alpha=0.3)


def _places(curve: Curve, counted: Counted) -> tuple[list[float], list[float]]:
    """Bytes and accuracies in percent of all points."""
    return [point.size(counted) for point in curve.points], [100 * point.accuracy for point in curve.points]

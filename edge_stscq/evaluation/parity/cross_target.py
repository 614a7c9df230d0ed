"""Agreement between the artifacts of one model. A fleet of different devices needs it, or its faces don't match."""

from collections.abc import Sequence
from itertools import combinations

from pydantic import BaseModel, ConfigDict, Field

from edge_stscq.config.thresholds import Check, at_least
from edge_stscq.evaluation.parity.compare import BundleResult


class AgreementMatrix(BaseModel):
    """Share of equal tokens of the same faces between every two artefacts."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    bundles: tuple[str, ...]
    tokens: tuple[tuple[float, ...], ...] = Field(description="share with the same group and index, row and column")
    checks: tuple[Check, ...] = Field(description="one for every two artefacts of the same precision")
    passed: bool


def cross_target_agreement(judged: Sequence[BundleResult], least: float) -> AgreementMatrix:
    """Compare every two artefacts that coded the same faces.

    Args:
        least: share of equal tokens that artefacts of one precision must reach.
    """
    reports = [one.report for one in judged]
    shares = tuple(tuple(float(a.codes.equal_tokens(b.codes).mean()) for b in judged) for a in judged)
    checks = tuple(
        at_least(f"token agreement of {reports[i].bundle} and {reports[j].bundle}", shares[i][j], least)
        for i, j in combinations(range(len(reports)), 2)
        if reports[i].precision == reports[j].precision
    )
    names = tuple(report.bundle for report in reports)
    return AgreementMatrix(bundles=names, tokens=shares, checks=checks, passed=all(check.passed for check in checks))

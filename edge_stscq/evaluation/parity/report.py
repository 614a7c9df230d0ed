"""Parity of one or more bundles of a model: each beside full precision, and beside each other."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from edge_stscq._files import make_folder, write_file
from edge_stscq._progress import Steps, no_steps
from edge_stscq.bundle import Bundle
from edge_stscq.codec.model import Codec
from edge_stscq.config.recipe import Recipe
from edge_stscq.config.thresholds import ParityThresholds, Thresholds
from edge_stscq.data.crops import Faces
from edge_stscq.errors import EdgeError
from edge_stscq.evaluation.parity.bundles import FullPrecision, PairedFaces, golden_faces
from edge_stscq.evaluation.parity.compare import BundleResult
from edge_stscq.evaluation.parity.cross_target import AgreementMatrix, cross_target_agreement
from edge_stscq.evaluation.parity.html.page import page
from quantization import Calibration
from targets.subprocess_check import load_encoder_or_reference


class StatedThresholds(NamedTuple):
    """Thresholds, and in words where they are stated."""

    thresholds: Thresholds
    source: str


@dataclass(frozen=True, eq=False)
class ParityReport:
    """Bundles after their judgement.

    Attributes:
        bundles: one result each, with its report and codes.
        matrix: agreement of every two; None of a single one.
        thresholds: where what they must reach is stated.

    Example:
        >>> report = parity(["bundles/onnx-int8"], codec, crops)
        >>> report.passed
        False
        >>> report.to_html("parity.html")
    """

    bundles: tuple[BundleResult, ...]
    matrix: AgreementMatrix | None
    thresholds: str

    @property
    def passed(self) -> bool:
        """True if every bundle, and every two of one precision, reach every threshold."""
        return all(one.report.passed for one in self.bundles) and (self.matrix is None or self.matrix.passed)

    def to_html(self, path: Path | str) -> None:
        """Write a page with plots and the worst faces.

        Raises:
            EdgeError: it cannot be written.
        """
        path = Path(path)
        make_folder(path.parent)
        write_file(path, page(self.bundles, self.matrix, self.thresholds, datetime.now(UTC)))


def stated_thresholds(
    model: Path | None, floor: bool = False, changed: Mapping[str, float] | None = None
) -> StatedThresholds:
    """Thresholds of a model's recipe, or its floor; the built-in ones if it states none.

    Args:
        model: folder with `recipe.toml`.
        floor: what the model of today reaches, instead of what a release must.
        changed: values that take the place of the stated ones, by name.

    Raises:
        EdgeError: the recipe is damaged, or states no floor.
    """
    path = None if model is None else model / "recipe.toml"
    recipe = Recipe.load(path) if path is not None and path.exists() else None
    stated = ParityThresholds() if recipe is None else recipe.parity
    own = recipe is not None and "parity" in recipe.model_fields_set
    thresholds: Thresholds = stated
    source = f"[parity] of {path}" if own else "the built-in ones"
    if floor:
        if stated.floor is None:
            raise EdgeError(f"{path} states no floor; write the table [parity.floor] there, see docs/parity.md")
        thresholds, source = stated.floor, f"[parity.floor] of {path}"
    if changed:
        source = f"{source}, changed by options: {', '.join(changed)}"
    return StatedThresholds(thresholds.model_copy(update=dict(changed or {})), source)


def compare_bundles(
    bundles: Sequence[Bundle],
    codec: Codec,
    faces: Faces | None = None,
    *,
    source: str = "the caller",
    thresholds: StatedThresholds | None = None,
    paired: PairedFaces | None = None,
    recognizers: Path | None = None,
    calibration: Calibration | None = None,
    steps: Steps = no_steps,
    on_result: Callable[[BundleResult], None] = lambda result: None,
) -> ParityReport:
    """Compare artifacts with their quantized graph, with the full-precision student and with each other.

    Args:
        bundles: one or more of the codec's model.
        faces: what every artifact codes; the golden pictures of the first bundle if None.
        source: where they came from, for the report.
        thresholds: what must be reached; what the model's recipe states if None.
        paired, recognizers, calibration: as for `FullPrecision`.
        on_result: told of every bundle when it has been compared.

    Raises:
        EdgeError: there is no bundle, one is of another model, or a part of the model is missing.
    """
    if not bundles:
        raise EdgeError("no bundle to compare; export one first")
    for bundle in bundles:
        codec.check_bundle(bundle)
    limits, stated = thresholds or stated_thresholds(codec.folder)
    artifacts = [load_encoder_or_reference(bundle, verify=False) for bundle in bundles]
    if faces is None:
        faces, source = golden_faces(bundles[0]), f"the golden pictures of {bundles[0].folder}"
    full = FullPrecision(codec, recognizers, faces, source, paired, calibration, steps)
    results = []
    for artifact in artifacts:
        exact = artifact.bundle.manifest.exact
        results.append(full.evaluate(artifact, limits.for_integers() if exact else limits))
        on_result(results[-1])
    if all(bundle.manifest.exact for bundle in bundles):
        limits = limits.for_integers()
    matrix = cross_target_agreement(results, limits.target_agreement) if len(results) > 1 else None
    return ParityReport(tuple(results), matrix, stated)

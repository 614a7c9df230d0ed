"""Parity of bundles: what `compare_codes` needs, taken from bundles, a codec and a recognizer."""

from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from edge_stscq._progress import Steps, no_steps
from edge_stscq.bundle import Bundle
from edge_stscq.bundle.manifest import Precision
from edge_stscq.codec.encoder import EdgeEncoder
from edge_stscq.codec.integer.encoder import IntegerEncoder
from edge_stscq.codec.model import Codec, batches
from edge_stscq.config.thresholds import Thresholds
from edge_stscq.data.crops import Faces, load_faces
from edge_stscq.device import DeviceEncoder
from edge_stscq.evaluation.artifact import in_full_precision
from edge_stscq.evaluation.parity.accuracy import accuracy
from edge_stscq.evaluation.parity.compare import BundleResult, Parity, Reference, checks, compare_codes
from edge_stscq.evaluation.verification.layers import VerificationReport, evaluate_layers
from edge_stscq.evaluation.verification.pairs import Pairs, read_pairs
from edge_stscq.recognizers import HELD_OUT, load_recognizers
from edge_stscq.stream import Codes
from quantization import Calibration, capture, run_graph
from quantization.integer_graph import integer_program
from quantization.reference import run_program

Answers = tuple[NDArray[np.int32], NDArray[np.int32]]


class PairedFaces(NamedTuple):
    """Crops and the pairs of them that are to be verified."""

    faces: Faces
    pairs: Pairs

    @classmethod
    def load(cls, pairs: Path, crops: Path, first: int | None = None) -> "PairedFaces":
        """All pairs of a list or the first ones, and their crops from a folder or `.tar`.

        Raises:
            EdgeError: as `read_pairs`, `Pairs.head` and `load_faces`.
        """
        chosen = read_pairs(pairs) if first is None else read_pairs(pairs).head(first)
        return cls(load_faces(crops, names=chosen.names), chosen)


def golden_faces(bundle: Bundle) -> Faces:
    """The bundle's golden pictures. They are drawn by a program, so what they show is the runtime, not the quality."""
    images = bundle.golden.images
    return Faces(tuple(f"golden {i}" for i in range(len(images))), images)


class FullPrecision:
    """The full-precision side of a model on some faces; every part is computed once, when the first bundle asks for it.

    Args:
        codec: of the student.
        recognizers: folder with the judge; without it, the student's own identity embedding measures identity, and
            pairs are verified in the compressed domain only.
        faces: what every bundle codes.
        source: where they came from, for the report.
        paired: what verification accuracy is measured on, if at all.
        calibration: of the student; what its folder holds if None.
        steps: shows a step of so many faces.

    Raises:
        EdgeError: the model is incomplete, or the judge is missing.
    """

    def __init__(
        self,
        codec: Codec,
        recognizers: Path | None,
        faces: Faces,
        source: str,
        paired: PairedFaces | None = None,
        calibration: Calibration | None = None,
        steps: Steps = no_steps,
    ) -> None:
        self._full, student = in_full_precision(codec), codec.encoder
        assert isinstance(student, EdgeEncoder | IntegerEncoder)
        self._student, self._faces, self._source, self._paired = student, faces, source, paired
        self._calibration, self._folder, self._steps = calibration, codec.folder, steps
        self._graphs: dict[Precision, Codes] = {}
        self._judges = {} if recognizers is None else load_recognizers(recognizers, [HELD_OUT])

    def evaluate(self, artifact: DeviceEncoder, thresholds: Thresholds) -> BundleResult:
        """Compare an artefact of this model with its quantised graph and with the full-precision student.

        Raises:
            EdgeError: the ranges of that graph are missing, or there is nothing to verify pairs by.
        """
        manifest, reference = artifact.bundle.manifest, self._reference
        graph = None if manifest.precision == "fp32" else self._graph(manifest.precision)
        name = f"{manifest.target} {manifest.precision}"
        coded = self._full.with_encoder(artifact, name)
        with self._steps(name, 2 * len(self._faces)) as progress:
            codes = coded.encode(self._faces.images, progress=progress)
            comparison = compare_codes(reference, codes, graph, progress)
        verified = None
        if self._paired is not None:
            verified = accuracy(self._full_accuracy, self._verify(coded))
        held = checks(comparison, verified, thresholds)
        report = Parity(
            bundle=str(artifact.bundle.folder),
            model=manifest.config.name,
            model_id=manifest.model_id,
            target=manifest.target,
            precision=manifest.precision,
            executor=artifact.runtime,
            faces=self._source,
            layer_names=reference.layer_names,
            layer_ends=reference.layer_ends,
            runtime=comparison.runtime,
            quantisation=comparison.quantisation,
            device=comparison.device,
            pictures=comparison.pictures,
            accuracy=verified,
            checks=held,
            passed=all(check.passed for check in held),
        )
        return BundleResult(report, codes, comparison.portraits)

    @cached_property
    def _reference(self) -> Reference:
        full = self._full
        with self._steps("full precision", len(self._faces)) as progress:
            found = full.analyze(self._faces.images, progress)
        embed, by = (lambda faces: full.analyze(faces).embedding), "the student's own embedding"
        return Reference(
            faces=self._faces,
            codes=found.codes,
            margin=found.margin,
            vectors=found.vectors,
            decode=full.decode,
            embed=self._judges[HELD_OUT].embed if self._judges else embed,
            embedded_by=HELD_OUT if self._judges else by,
            books=full.books,
            layer_names=full.config.layer_names,
            layer_ends=full.config.layer_ends,
        )

    def _graph(self, precision: Precision) -> Codes:
        """Codes of a quantised graph in torch, from the ranges that were stored with the model, or of whole numbers."""
        if precision not in self._graphs:
            student = self._student
            if isinstance(student, IntegerEncoder):
                answers = self._run_program(student)
            else:
                answers = self._run_graph(student, precision)
            self._graphs[precision] = Codes(*answers, len(student.config.layers))
        return self._graphs[precision]

    def _run_program(self, student: IntegerEncoder) -> Answers:
        program, parts = integer_program(student), []
        with self._steps("whole numbers", len(self._faces)) as progress:
            for part in batches(len(self._faces)):
                parts.append(run_program(program, self._faces.images[part]))
                progress(part.stop - part.start)
        groups, tokens = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
        return groups, tokens

    def _run_graph(self, student: EdgeEncoder, precision: Precision) -> Answers:
        program = capture(student, precision, self._calibration or Calibration.load(self._folder)).program
        with self._steps(f"{precision} graph", len(self._faces)) as progress:
            return run_graph(program, self._faces.images, progress)

    @cached_property
    def _full_accuracy(self) -> VerificationReport:
        return self._verify(self._full)

    def _verify(self, codec: Codec) -> VerificationReport:
        assert self._paired is not None
        faces, pairs = self._paired
        with self._steps(f"pairs, {codec.name}", len(faces)) as progress:
            return evaluate_layers(codec, faces, pairs, self._judges, progress)

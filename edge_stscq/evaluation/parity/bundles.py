"""Parity of bundles: what `parity.measure` needs, taken from bundles, a model folder and a recogniser."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from edge_stscq.bundle import Bundle
from edge_stscq.bundle.manifest import Precision
from edge_stscq.codec import store
from edge_stscq.codec.encoder import EdgeEncoder
from edge_stscq.codec.integer.encoder import IntegerEncoder
from edge_stscq.config.thresholds import Thresholds
from edge_stscq.data.crops import Faces, load_faces
from edge_stscq.device import DeviceEncoder
from edge_stscq.evaluation.artefact import encode_with
from edge_stscq.evaluation.parity.accuracy import accuracy
from edge_stscq.evaluation.parity.compare import BundleResult, Parity, Reference, checks, compare_codes
from edge_stscq.evaluation.subject import Codes, Progress, Subject, analyse, batches, from_modules, no_progress
from edge_stscq.evaluation.verification.layers import VerificationReport, evaluate_layers
from edge_stscq.evaluation.verification.pairs import Pairs, read_pairs
from edge_stscq.recognizers import HELD_OUT, load_recognizers

ShowProgress = Callable[[str, int], AbstractContextManager[Progress]]


@contextmanager
def no_progress_bar(name: str, faces: int) -> Iterator[Progress]:
    """A step that nobody watches."""
    yield no_progress


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
        model: model folder.
        recognisers: folder with the judge; without it, the student's own identity embedding measures identity, and
            pairs are verified in the compressed domain only.
        faces: what every bundle codes.
        source: where they came from, for the report.
        paired: what verification accuracy is measured on, if at all.
        progress: shows a step of so many faces; called with its name and their number.

    Raises:
        EdgeError: the model is incomplete, or the judge is missing.
    """

    def __init__(
        self,
        model: Path,
        recognisers: Path | None,
        faces: Faces,
        source: str,
        paired: PairedFaces | None = None,
        progress: ShowProgress = no_progress_bar,
    ) -> None:
        self._model, self._faces, self._source, self._paired = model, faces, source, paired
        self._student, self._progress = store.load_student(model), progress
        if isinstance(self._student, IntegerEncoder):
            self._student.quantize(False)
        self._graphs: dict[Precision, Codes] = {}
        self._subject = from_modules(self._student, store.load_decoder(model), "student")
        self._judges = {} if recognisers is None else load_recognizers(recognisers, [HELD_OUT])

    def evaluate(self, artefact: DeviceEncoder, thresholds: Thresholds) -> BundleResult:
        """Compare an artefact of this model with its quantised graph and with the full-precision student.

        Raises:
            EdgeError: the ranges of that graph are missing, or there is nothing to verify pairs by.
        """
        manifest, reference = artefact.bundle.manifest, self._reference
        graph = None if manifest.precision == "fp32" else self._graph(manifest.precision)
        encode, name = encode_with(artefact), f"{manifest.target} {manifest.precision}"
        with self._progress(name, 2 * len(self._faces)) as progress:
            codes = encode(self._faces.images, progress)
            comparison = compare_codes(reference, codes, graph, progress)
        verified = None
        if self._paired is not None:
            subject = replace(self._subject, name=name, encode=encode)
            verified = accuracy(self._full_accuracy, self._verify(subject))
        held = checks(comparison, verified, thresholds)
        report = Parity(
            bundle=str(artefact.bundle.folder),
            model=manifest.config.name,
            model_id=manifest.model_id,
            target=manifest.target,
            precision=manifest.precision,
            executor=artefact.runtime,
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
        images, parts = self._faces.images, []
        with self._progress("full precision", len(images)) as progress:
            for part in batches(len(images)):
                parts.append(analyse(self._student, images[part]))
                progress(part.stop - part.start)
        codes = Codes(*(np.concatenate(arrays) for arrays in zip(*(part.codes for part in parts), strict=True)))
        embed, by = (lambda faces: analyse(self._student, faces).embedding), "the student's own embedding"
        return Reference(
            faces=self._faces,
            codes=codes,
            margin=np.concatenate([part.margin for part in parts]),
            decode=lambda codes: self._subject.decode(codes, len(self._subject.config.layers)),
            embed=self._judges[HELD_OUT].embed if self._judges else embed,
            embedded_by=HELD_OUT if self._judges else by,
            books=store.full_books(self._model),
            layer_names=self._subject.config.layer_names,
            layer_ends=self._subject.config.layer_ends,
        )

    def _graph(self, precision: Precision) -> Codes:
        """Codes of a quantised graph in torch, from the ranges that were stored with the model, or of whole numbers."""
        if precision not in self._graphs:
            integers = isinstance(self._student, IntegerEncoder)
            self._graphs[precision] = self._run_program() if integers else self._run_graph(precision)
        return self._graphs[precision]

    def _run_program(self) -> Codes:
        from quantization.integer_graph import integer_program, run_program

        student, parts = store.load_student(self._model), []
        assert isinstance(student, IntegerEncoder)
        program = integer_program(student)
        with self._progress("whole numbers", len(self._faces)) as progress:
            for part in batches(len(self._faces)):
                parts.append(run_program(program, self._faces.images[part]))
                progress(part.stop - part.start)
        return Codes(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))

    def _run_graph(self, precision: Precision) -> Codes:
        from quantization import Calibration, captured_graph, quantized_encoder, weight_only_encoder

        assert isinstance(self._student, EdgeEncoder)
        make = quantized_encoder if precision == "int8" else weight_only_encoder
        graph, rows = captured_graph(make(self._student, Calibration.load(self._model))).module(), []
        with self._progress(f"{precision} graph", len(self._faces)) as progress, torch.no_grad():
            for image in self._faces.images:
                rows.append(graph(torch.from_numpy(image[None].copy())))
                progress(1)
        return Codes(*(torch.cat(answers).numpy() for answers in zip(*rows, strict=True)))

    @cached_property
    def _full_accuracy(self) -> VerificationReport:
        return self._verify(self._subject)

    def _verify(self, subject: Subject) -> VerificationReport:
        assert self._paired is not None
        faces, pairs = self._paired
        with self._progress(f"pairs, {subject.name}", len(faces)) as progress:
            return evaluate_layers(subject, faces, pairs, self._judges, progress)

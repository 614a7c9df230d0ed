"""Parity of bundles: what `parity.measure` needs, taken from a bundle, a model folder and a recogniser."""

from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from edge_stscq.codec import store
from edge_stscq.codec.encoder import EdgeEncoder
from edge_stscq.device import Bundle
from edge_stscq.evaluation.artefact import check_same_model, encode_with
from edge_stscq.evaluation.faces import Faces
from edge_stscq.evaluation.parity import Embed, Parity, Reference, failures, measure
from edge_stscq.evaluation.recognisers import JUDGE, load_recognisers
from edge_stscq.evaluation.subject import Codes, Encode, Progress, analyse, batches, from_modules, quiet
from edge_stscq.evaluation.thresholds import Thresholds
from targets.check import open_encoder


def golden_faces(bundle: Bundle) -> Faces:
    """The bundle's golden pictures. They are drawn by a program, so what they show is the runtime, not the quality."""
    images = bundle.golden.images
    return Faces(tuple(f"golden {i}" for i in range(len(images))), images)


class FullPrecision:
    """The full-precision side of a model, loaded once for any number of its bundles.

    Args:
        model: model folder.
        recognisers: folder with the judge; without it, the student's own identity embedding measures identity.

    Raises:
        EdgeError: the model is incomplete, or the judge is missing.
    """

    def __init__(self, model: Path, recognisers: Path | None) -> None:
        self._model = model
        self._student = store.load_student(model)
        self._subject = from_modules(self._student, store.load_decoder(model), "student")
        self._embed, self._embedded_by = _embedder(self._student, recognisers)

    @cached_property
    def _quantised(self) -> Encode:
        return _quantised(self._student, self._model)

    def judge(
        self, bundle: Bundle, faces: Faces, source: str, thresholds: Thresholds, progress: Progress = quiet
    ) -> Parity:
        """Compare the artefact of `bundle` with its int8 graph and with the full-precision student.

        Args:
            source: where the faces came from, for the report.
            progress: told of every face a step has finished; `parity.steps` says how many there are.

        Raises:
            EdgeError: the bundle is of another model, or a runtime is missing.
        """
        check_same_model(bundle, self._model)
        artefact, layer_ends = open_encoder(bundle), self._subject.config.layer_ends
        reference = Reference(
            lambda images, progress: _analyse(self._student, images, progress),
            lambda codes: self._subject.decode(codes, len(layer_ends)),
            bundle.books,
            layer_ends,
        )
        measured = measure(
            faces.images,
            encode_with(artefact),
            self._quantised if bundle.manifest.precision == "int8" else None,
            reference,
            self._embed,
            self._embedded_by,
            progress,
        )
        problems = failures(measured, thresholds)
        return Parity(
            bundle=bundle.manifest.name,
            model_id=bundle.manifest.model_id,
            target=bundle.manifest.target,
            precision=bundle.manifest.precision,
            executor=artefact.runtime,
            faces=source,
            runtime=measured.runtime,
            quantisation=measured.quantisation,
            device=measured.device,
            pictures=measured.pictures,
            thresholds=thresholds,
            failures=problems,
            passed=not problems,
        )


def _analyse(student: EdgeEncoder, images: NDArray[np.uint8], progress: Progress) -> tuple[Codes, NDArray[np.float32]]:
    parts = []
    for part in batches(len(images)):
        parts.append(analyse(student, images[part]))
        progress(part.stop - part.start)
    codes = Codes(np.concatenate([p.codes.group for p in parts]), np.concatenate([p.codes.tokens for p in parts]))
    return codes, np.concatenate([p.margin for p in parts])


def _quantised(student: EdgeEncoder, model: Path) -> Encode:
    """The int8 graph in torch, from the ranges that were stored with the model."""
    from quantization import Calibration, quantized_graph

    graph = quantized_graph(student, Calibration.load(model)).module()

    @torch.no_grad()
    def encode(images: NDArray[np.uint8], progress: Progress = quiet) -> Codes:
        rows = []
        for image in images:
            rows.append(graph(torch.from_numpy(image[None].copy())))
            progress(1)
        return Codes(torch.cat([group for group, _ in rows]).numpy(), torch.cat([tokens for _, tokens in rows]).numpy())

    return encode


def _embedder(student: EdgeEncoder, recognisers: Path | None) -> tuple[Embed, str]:
    if recognisers is not None:
        return load_recognisers(recognisers, [JUDGE])[JUDGE].embed, JUDGE
    return lambda faces: analyse(student, faces).embedding, "the student's own embedding"

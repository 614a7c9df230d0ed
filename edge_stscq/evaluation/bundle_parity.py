"""Parity of a bundle: what `parity.measure` needs, taken from a bundle, a model folder and a recogniser."""

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


def bundle_parity(
    bundle: Bundle,
    model: Path,
    faces: Faces,
    source: str,
    recognisers: Path | None,
    thresholds: Thresholds,
    progress: Progress = quiet,
) -> Parity:
    """Compare the artefact of `bundle` with its int8 graph and with the full-precision student of `model`.

    Args:
        source: where the faces came from, for the report.
        recognisers: folder with the judge; without it, the student's own identity embedding measures identity.
        progress: told of every face a step has finished; `parity.steps` says how many there are.

    Raises:
        EdgeError: the model is another one or incomplete, or a runtime or recogniser is missing.
    """
    check_same_model(bundle, model)
    student = store.load_student(model)
    subject = from_modules(student, store.load_decoder(model), "student")
    artefact = open_encoder(bundle)
    embed, embedded_by = _embedder(student, recognisers)
    reference = Reference(
        lambda images, progress: _analyse(student, images, progress),
        lambda codes: subject.decode(codes, len(subject.config.layers)),
        bundle.books,
        subject.config.layer_ends,
    )
    quantised = _quantised(student, model) if bundle.manifest.precision == "int8" else None
    measured = measure(faces.images, encode_with(artefact), quantised, reference, embed, embedded_by, progress)
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

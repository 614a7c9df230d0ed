"""A model captured for export: its graph, its golden pictures and what the graph answers to them."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edge_stscq.bundle import IdentityProjection
from edge_stscq.bundle.manifest import Precision, QuantisationSpec
from edge_stscq.config.codec import CodecConfig
from edge_stscq.errors import EdgeError
from edge_stscq.stream import Tables
from targets import golden, integers
from targets.base import Prediction, Target

if TYPE_CHECKING:
    from torch.export import ExportedProgram

    from edge_stscq.codec.store import Student


@dataclass(frozen=True, eq=False)
class CapturedModel:
    """A model ready to be lowered: all that bundles of one precision have in common.

    Attributes:
        program: the graph; `targets/base.py` describes it.
        signed_program: the same graph with signed activations, of a student made for integers.
        images: golden pictures uint8 [G, 128, 128, 3].
        expected: what the graph answers to them.
        other: as good an answer where it is a tie, the expected one elsewhere; `targets/golden.py` says what a tie is.
        books: float32 [M, T, K, D].
        projection: reads an embedding back from identity tokens.
    """

    config: CodecConfig
    precision: Precision
    program: "ExportedProgram"
    images: NDArray[np.uint8]
    expected: Prediction
    other: Prediction
    books: NDArray[np.float32]
    tables: Tables
    projection: IdentityProjection
    quantisation: QuantisationSpec | None
    signed_program: "ExportedProgram | None" = None

    @property
    def exact(self) -> bool:
        """Whether every artifact must give exactly the expected tokens."""
        return self.signed_program is not None

    def program_for(self, target: Target) -> "ExportedProgram":
        """The graph as the target's kernels like it."""
        return self.signed_program if self.signed_program is not None and target.signed else self.program


def capture_model(model: Path, precision: Precision) -> CapturedModel:
    """Read a model folder and capture its student's graph.

    Raises:
        EdgeError: the folder is incomplete or, but for fp32 and a student made for integers, was not calibrated since
            the student was trained; or the student has no such precision.
    """
    import torch

    from edge_stscq.codec import store
    from edge_stscq.codec.integer_encoder import IntegerEncoder
    from quantization import WEIGHT_ONLY, Calibration, captured_graph, quantized_encoder, weight_only_encoder

    config, books = store.load_config(model), store.full_books(model)
    student = encoder = store.load_student(model)
    projection = identity_projection(student)
    quantisation = None
    if isinstance(student, IntegerEncoder):
        if precision == "w8":
            raise EdgeError(integers.NO_WEIGHT_ONLY)
        if precision == "int8":
            found = integers.capture(student, books)
            return CapturedModel(
                config, precision, found.unsigned, found.images, found.expected, found.expected, books,
                store.load_tables(model), projection, QuantisationSpec(scheme=integers.SCHEME), found.signed,
            )  # fmt: skip
        student.quantize(False)
    elif precision != "fp32":
        calibration = Calibration.load(model)
        make = quantized_encoder if precision == "int8" else weight_only_encoder
        encoder = make(student, calibration)
        quantisation = QuantisationSpec(
            scheme=calibration.scheme if precision == "int8" else WEIGHT_ONLY,
            calibration_images=calibration.count, calibration_sha256=calibration.faces_sha256,
        )  # fmt: skip

    def analyze(encoder: store.Student, pictures: NDArray[np.uint8]) -> golden.RoutingMargins:
        found = encoder.analyse(torch.from_numpy(pictures))
        return golden.routing_margins(found.group_logits.numpy(), found.group.numpy(), found.z.numpy(), books)

    images, unsure = golden.select(partial(analyze, student), config.groups)
    seen = golden.RoutingMargins(
        *map(np.concatenate, zip(*(analyze(encoder, image[None]) for image in images), strict=True))
    )
    other = Prediction(
        np.where(unsure, seen.other_group, seen.group),
        np.where(seen.boundary_distance < golden.TIE, seen.runner_up, seen.tokens),
    )
    program = captured_graph(encoder)
    graph = program.module()
    answers = [graph(torch.from_numpy(image)[None]) for image in images]
    expected = Prediction(*(torch.cat(part).numpy() for part in zip(*answers, strict=True)))
    return CapturedModel(
        config, precision, program, images, expected, other, books, store.load_tables(model), projection, quantisation,
    )  # fmt: skip


def identity_projection(student: "Student") -> IdentityProjection:
    """What a student's identity tokens mean, as a bundle carries it."""
    from edge_stscq.codec.identity import IdentityHead

    head = student.head if isinstance(student.head, IdentityHead) else student.head.identity
    return IdentityProjection(head.projection.numpy(), head.mean.numpy(), head.centre.numpy())

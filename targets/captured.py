"""A model captured for export: its graph, its golden pictures and what the graph answers to them."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edge_stscq.bundle import IdentityProjection
from edge_stscq.bundle.manifest import Precision, QuantizationSpec
from edge_stscq.bundle.match_rule import MatchRule
from edge_stscq.config.codec import CodecConfig
from edge_stscq.errors import EdgeError
from edge_stscq.stream import Codes, Tables
from edge_stscq.stream.learned import Learned
from targets import golden, integers
from targets.base import Target

if TYPE_CHECKING:
    from torch.export import ExportedProgram

    from edge_stscq.codec.model import Codec
    from edge_stscq.codec.store import Student
    from quantization import Calibration


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
        rule: scores and thresholds for matching, of a model that was measured.
        learned: the learned coder, of a model that has one.
    """

    config: CodecConfig
    precision: Precision
    program: "ExportedProgram"
    images: NDArray[np.uint8]
    expected: Codes
    other: Codes
    books: NDArray[np.float32]
    tables: Tables
    projection: IdentityProjection
    quantisation: QuantizationSpec | None
    signed_program: "ExportedProgram | None" = None
    rule: MatchRule | None = None
    learned: Learned | None = None

    @property
    def exact(self) -> bool:
        """True if every artifact must give exactly the expected tokens."""
        return self.signed_program is not None

    def program_for(self, target: Target) -> "ExportedProgram":
        """The graph as the target's kernels like it."""
        return self.signed_program if self.signed_program is not None and target.signed else self.program


def capture_model(
    model: "Codec | Path", precision: Precision, calibration: "Calibration | None" = None
) -> CapturedModel:
    """Capture the graph of a model's student.

    Args:
        model: a codec, or the folder of one.
        calibration: for int8 and w8; what the folder holds if None. A student made for integers needs none.

    Raises:
        EdgeError: the model is incomplete or, but for fp32 and a student made for integers, was not calibrated since
            the student was trained; or the student has no such precision.
    """
    import torch

    from edge_stscq.codec.encoder import EdgeEncoder
    from edge_stscq.codec.integer.encoder import IntegerEncoder
    from edge_stscq.codec.model import Codec
    from quantization import WEIGHT_ONLY, Calibration, capture, run_graph

    codec = model if isinstance(model, Codec) else Codec.load(model)
    config, books, tables = codec.config, codec.books, codec.tables
    if tables is None:
        raise EdgeError("the model has no frequency tables yet; finish its training")
    student = codec.encoder
    if not isinstance(student, EdgeEncoder | IntegerEncoder):
        raise EdgeError(f"what is exported is the student, not {codec.name}; load that")
    layers, quantisation, projection = len(config.layers), None, identity_projection(student)
    if isinstance(student, IntegerEncoder):
        if precision == "w8":
            raise EdgeError(integers.NO_WEIGHT_ONLY)
        if precision == "int8":
            found = integers.capture(student, books)
            return CapturedModel(
                config, precision, found.unsigned, found.images, found.expected, found.expected, books,
                tables, projection, QuantizationSpec(scheme=integers.SCHEME), found.signed, codec.rule,
                codec.learned,
            )  # fmt: skip
        student = student.float_twin()
    elif precision != "fp32":
        calibration = calibration or Calibration.load(codec.folder)
        quantisation = QuantizationSpec(
            scheme=calibration.scheme if precision == "int8" else WEIGHT_ONLY,
            calibration_images=calibration.count, calibration_sha256=calibration.faces_sha256,
        )  # fmt: skip

    encoder, program = capture(student, precision, calibration)

    def analyze(encoder: EdgeEncoder | IntegerEncoder, pictures: NDArray[np.uint8]) -> golden.RoutingMargins:
        found = encoder.analyse(torch.from_numpy(pictures))
        return golden.routing_margins(found.group_logits.numpy(), found.group.numpy(), found.z.numpy(), books)

    images, unsure = golden.select(partial(analyze, student), config.groups)
    seen = golden.RoutingMargins(
        *map(np.concatenate, zip(*(analyze(encoder, image[None]) for image in images), strict=True))
    )
    other = Codes(
        np.where(unsure, seen.other_group, seen.group),
        np.where(seen.boundary_distance < golden.TIE, seen.runner_up, seen.tokens), layers,
    )  # fmt: skip
    expected = Codes(*run_graph(program, images), layers)
    return CapturedModel(
        config, precision, program, images, expected, other, books, tables, projection, quantisation,
        rule=codec.rule, learned=codec.learned,
    )  # fmt: skip


def identity_projection(student: "Student") -> IdentityProjection:
    """Identity projection of a student's tokens, as a bundle carries it."""
    from edge_stscq.codec.identity import IdentityHead

    head = student.head if isinstance(student.head, IdentityHead) else student.head.identity
    return IdentityProjection(head.projection.numpy(), head.mean.numpy(), head.centre.numpy())

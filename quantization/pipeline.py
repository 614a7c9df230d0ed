"""From a trained student and real faces to a calibration: equalize, round, calibrate, choose what stays in float."""

from collections.abc import Collection
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray

from edge_stscq._progress import Steps, no_steps
from edge_stscq.codec.encoder import EdgeEncoder
from edge_stscq.codec.store import round_as_stored
from edge_stscq.errors import EdgeError
from quantization.calibration import Calibration
from quantization.equalize import equalize
from quantization.graph import calibrate, keep_layers, quantized_encoder
from quantization.ranges import Observer
from quantization.rounding import round_weights
from quantization.search import search
from quantization.sensitivity import Row, sensitivity
from quantization.simulation import Simulation, agreement, analyse, sqnr


class UnreachableAgreementError(EdgeError):
    """Every layer must stay in full precision to reach the wanted agreement."""


@dataclass(frozen=True, eq=False)
class Quantization:
    """A calibration, and what it gives on faces that were held out.

    Attributes:
        rows: sensitivity of every layer, if it was measured.
        tokens: share of equal tokens, int8 against the student in float32, 0..1.
        tokens_by_layer: the same for the tokens of each layer of the stream.
        sqnr: signal to quantization noise of the token vectors in dB; None without noise.
        held_out: faces that this was measured on.
    """

    calibration: Calibration
    rows: tuple[Row, ...]
    tokens: float
    tokens_by_layer: tuple[float, ...]
    sqnr: float | None
    held_out: int


def quantize_student(
    student: EdgeEncoder,
    faces: NDArray[np.uint8],
    held_out: NDArray[np.uint8],
    *,
    min_agreement: float | None = None,
    keep: Collection[str] = (),
    observer: Observer = "mse",
    percentile: float = 99.99,
    correct_biases: bool = True,
    measure_sensitivity: bool = False,
    steps: Steps = no_steps,
) -> Quantization:
    """Make a student ready for int8. Its weights change in place: the same function but for rounding to the int8 grid.

    Args:
        faces: crops uint8 [N, 128, 128, 3] to calibrate with; at least 300 of all kinds are wanted.
        held_out: other crops to judge by.
        min_agreement: keep the fewest layers in float32 that give this share of equal tokens, 0..1.
        keep: layers that stay in float32 instead, by name.
        observer, percentile, correct_biases: as in `calibrate`.
        measure_sensitivity: tell what each layer costs.

    Raises:
        UnreachableAgreementError: only full precision reaches `min_agreement`.
        EdgeError: both `min_agreement` and `keep` are given, the student has no such layer, or there are no faces.
    """
    if keep and min_agreement is not None:
        raise EdgeError("a wanted agreement chooses what stays in float32, and so do names of layers; give one of them")
    if not len(held_out):
        raise EdgeError("no faces to judge by; hold some out")
    with steps("equalizing channels, rounding weights", None):
        seen = torch.from_numpy(faces)
        equalize(student, seen, observer, percentile)
        round_weights(student, seen)
        round_as_stored(student)
    with steps("calibrating, faces", len(faces)) as progress:
        calibration = calibrate(
            student, faces, progress, observer=observer, percentile=percentile, correct_biases=correct_biases
        )
    if keep:
        with steps("correcting biases around what is kept", None):
            calibration = keep_layers(student, calibration, keep, faces)
    rows: list[Row] = []
    if measure_sensitivity or min_agreement is not None:
        simulation = Simulation(student, calibration)
        with steps("sensitivity, layers", len(simulation.layers)) as progress:
            rows = sensitivity(simulation, calibration, held_out, progress)
    if min_agreement is not None:
        with steps("searching, trials", None) as progress:
            found = search(simulation, calibration, rows, min_agreement, faces, held_out, lambda trial: progress(1))
        calibration = found.calibration
        if len(calibration.kept) == len(rows):
            raise UnreachableAgreementError(
                f"only full precision gives {min_agreement:.1%} of the tokens; ask for less, or export in fp32"
            )
    with steps("judging, faces", 2 * len(held_out)) as progress:
        full = analyse(student, held_out, progress)
        int8 = analyse(quantized_encoder(student, calibration), held_out, progress)
    ends = (0, *student.config.layer_ends)
    by_layer = tuple(agreement(full, int8, slice(start, end)) for start, end in pairwise(ends))
    return Quantization(calibration, tuple(rows), agreement(full, int8), by_layer, sqnr(full.z, int8.z), len(held_out))


def split_faces(faces: NDArray[np.uint8], share: float) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Faces to calibrate with, and the given share of them, 0..1, spread evenly, to judge by.

    Raises:
        EdgeError: there is not one for each.
    """
    if len(faces) < 2:
        raise EdgeError("one face cannot both calibrate and judge; give --faces at least two")
    held_out = np.zeros(len(faces), bool)
    held_out[np.linspace(0, len(faces) - 1, max(1, int(share * len(faces)))).round().astype(int)] = True
    return faces[~held_out], faces[held_out]

"""Full precision is the float twin of a student made for integers, and a float32 student as it is."""

from pathlib import Path

import numpy as np
import pytest

from edge_stscq.codec.integer.encoder import GridConv, IntegerEncoder
from edge_stscq.codec.model import Codec
from edge_stscq.errors import EdgeError
from edge_stscq.evaluation.artifact import in_full_precision
from targets.golden import candidates


def test_student_made_for_integers_is_judged_beside_its_float_twin(integer_model: Path) -> None:
    codec = Codec.load(integer_model)
    full = in_full_precision(codec)
    assert isinstance(codec.encoder, IntegerEncoder)
    assert isinstance(full.encoder, IntegerEncoder)
    rounded, plain = (
        {layer.quantized for layer in encoder.identity.modules() if isinstance(layer, GridConv)}
        for encoder in (codec.encoder, full.encoder)
    )
    assert (rounded, plain) == ({True}, {False})


def test_float32_student_is_full_precision(tiny_model: Path) -> None:
    codec, pictures = Codec.load(tiny_model), np.stack(candidates(2))
    assert in_full_precision(codec).encode(pictures).equal_tokens(codec.encode(pictures)).all()


def test_teacher_of_integers_is_no_student(integer_model: Path) -> None:
    with pytest.raises(EdgeError, match="not of teacher"):
        in_full_precision(Codec.load(integer_model, "teacher"))

"""The model in training: its codec is settled, its networks load, and its student is exact in whole numbers."""

from pathlib import Path

import numpy as np
import torch

from edge_stscq.bundle import model_folder
from edge_stscq.codec import store
from edge_stscq.codec.integer.encoder import IntegerEncoder
from quantization.integer_graph import integer_program
from quantization.reference import run_program
from targets.golden import candidates

FOLDER = Path(__file__).parent.parent / "models" / "face128"


def test_model_id_is_the_one_of_the_card() -> None:
    found = model_folder.load_frame_codec(FOLDER).model_id.hex()
    assert f"model id `{found}`" in (FOLDER / "MODEL_CARD.md").read_text()


def test_student_answers_as_its_whole_numbers() -> None:
    student = store.load_student(FOLDER)
    assert isinstance(student, IntegerEncoder)
    pictures = np.stack(candidates(6))
    groups, tokens = run_program(integer_program(student), pictures)
    with torch.no_grad():
        group, token = student(torch.from_numpy(pictures))
    assert np.array_equal(group.numpy(), groups)
    assert np.array_equal(token.numpy(), tokens)


def test_every_layer_decodes() -> None:
    decoder = store.load_decoder(FOLDER)
    layers = len(decoder.config.layers)
    assert layers == 4
    group, tokens = torch.zeros(1, dtype=torch.long), torch.zeros(1, decoder.config.tokens, dtype=torch.long)
    pictures = [decoder.decode(group, tokens, count) for count in range(1, layers + 1)]
    assert all(picture.shape == (1, 128, 128, 3) for picture in pictures)
    assert len({picture.numpy().tobytes() for picture in pictures}) == layers

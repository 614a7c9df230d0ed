import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from edge_stscq.bundle import model_folder
from edge_stscq.codec import store
from edge_stscq.codec.integer.encoder import TOKEN_STEP, IntegerEncoder, ReferenceEncoder
from edge_stscq.codec.integer.grid import EXACT, SIGNED
from edge_stscq.codec.matching import Matcher
from edge_stscq.config.codec import CodecConfig
from edge_stscq.errors import EdgeError
from quantization.integer_graph import integer_program
from quantization.reference import run_program
from targets.golden import candidates
from tests.support.models.integer_model import integer_config

PICTURES = np.stack(candidates(20))


def test_integer_encoder_in_float_equals_whole_numbers(integer_model: Path) -> None:
    """Integer encoder computes in float what whole numbers give."""
    encoder = store.load_student(integer_model)
    assert isinstance(encoder, IntegerEncoder)
    groups, tokens = run_program(integer_program(encoder), PICTURES)
    found = encoder(torch.from_numpy(PICTURES))
    assert set(groups.tolist()) == {0, 1}
    np.testing.assert_array_equal(found[0].numpy(), groups)
    np.testing.assert_array_equal(found[1].numpy(), tokens)
    assert tokens[:, :2].max() < 12  # entries of the basic layer
    assert tokens[:, 2:].max() >= 12


def test_integer_encoder_without_rounding_is_a_twin_near_by(integer_model: Path) -> None:
    encoder = store.load_student(integer_model)
    assert isinstance(encoder, IntegerEncoder)
    images = torch.from_numpy(PICTURES)
    whole, twin = encoder.vectors(images), encoder.quantize(False).vectors(images)
    assert not torch.equal(whole, twin)
    assert torch.equal(encoder.quantize(True).vectors(images), whole)
    identity = encoder.layout.is_identity
    noise = (whole - twin)[:, identity].square().mean()
    assert noise < 0.05 * whole[:, identity].square().mean()
    assert torch.equal(whole[:, ~identity], twin[:, ~identity])


def test_largest_distance_bounds_what_the_search_can_reach(integer_model: Path) -> None:
    encoder = store.load_student(integer_model)
    assert isinstance(encoder, IntegerEncoder)
    extreme = torch.full((1, encoder.config.tokens, encoder.config.dim), SIGNED[0] * TOKEN_STEP)
    extreme = torch.stack([extreme, -extreme - TOKEN_STEP]).flatten(0, 1)
    unit = TOKEN_STEP**2
    reached = max(
        float(encoder.group_errors(extreme).abs().max()),
        float(encoder.codebooks.nearness(extreme, torch.zeros(2, dtype=torch.long)).abs().max()),
    )
    assert reached / unit <= encoder.largest_distance < EXACT


def test_integer_program_refuses_inexact_sums(integer_model: Path) -> None:
    """Integer program refuses what the search cannot hold exactly."""
    encoder = store.load_student(integer_model)
    assert isinstance(encoder, IntegerEncoder)
    encoder.codebooks.books[0, 0, 0, 0] += TOKEN_STEP / 2
    with pytest.raises(EdgeError, match="not on the grid"):
        integer_program(encoder)
    layers = tuple(
        layer.model_copy(update={"identity": 128, "identity_dims": 128}) if not number else layer.model_copy(
            update={"identity": 0, "identity_dims": 0}
        )
        for number, layer in enumerate(integer_config().layers)
    )  # fmt: skip
    wide = IntegerEncoder(integer_config().model_copy(update={"layers": layers}))
    wide.codebooks.books.fill_(0)
    with pytest.raises(EdgeError, match="beyond exact float32"):
        integer_program(wide)


def test_integer_program_names_the_layer_that_has_no_integers(integer_model: Path) -> None:
    encoder = store.load_student(integer_model)
    assert isinstance(encoder, IntegerEncoder)
    encoder.identity.get_submodule("layers.2").weight[0, 0] = torch.nan  # type: ignore[operator]
    with pytest.raises(EdgeError, match=r"layer identity\.layers\.2: .*not a finite number"):
        integer_program(encoder)


def test_token_layout_deals_every_component_to_one_slot(integer_model: Path) -> None:
    encoder = store.load_student(integer_model)
    assert isinstance(encoder, IntegerEncoder)
    config = encoder.config
    identity, spatial = torch.randn(3, 128), torch.randn(3, config.spatial_components)
    z = encoder.layout(identity, spatial)
    components = encoder.layout.components(z)
    held = sum(layer.identity_dims for layer in config.layers)
    torch.testing.assert_close(components[:, :held], identity[:, :held])
    torch.testing.assert_close(components[:, 128:], spatial)
    assert encoder.layout.components(z[:, : config.layer_ends[0]])[:, 8:].abs().max() == 0


def test_a_student_that_is_being_trained_computes_the_same_once_it_is_saved(
    integer_model: Path, tmp_path: Path
) -> None:
    shutil.copytree(integer_model, tmp_path / "model")
    trained = store.load_student(integer_model)
    assert isinstance(trained, IntegerEncoder)
    torch.manual_seed(0)
    for parameter in trained.identity.parameters():  # weights between the points of their grids
        parameter.add_(0.01 * parameter.abs().mean() * torch.randn_like(parameter))
    store.save_student(tmp_path / "model", trained)
    again = store.load_student(tmp_path / "model")
    assert isinstance(again, IntegerEncoder)
    picture = torch.randint(-128, 128, (2, 3, 112, 112)) / 128
    assert torch.equal(trained.identity(picture), again.identity(picture))
    ours, theirs = integer_program(trained), integer_program(again)
    for before, after in zip(ours.identity, theirs.identity, strict=True):
        assert all(torch.equal(torch.as_tensor(a), torch.as_tensor(b)) for a, b in zip(before, after, strict=True))


def test_integer_models_are_saved_and_loaded_as_they_are(integer_model: Path, tmp_path: Path) -> None:
    small, whole = store.load_student(integer_model), store.load_teacher(integer_model)
    assert isinstance(small, IntegerEncoder)
    assert isinstance(whole, ReferenceEncoder)
    model_folder.load_config(integer_model).save(tmp_path / "config.json")
    store.save_teacher(tmp_path, whole)
    store.save_student(tmp_path, small)
    again, teacher = store.load_student(tmp_path), store.load_teacher(tmp_path)
    assert isinstance(again, IntegerEncoder)
    for saved, loaded in ((small, again), (whole, teacher)):
        assert all(torch.equal(value, loaded.state_dict()[key]) for key, value in saved.state_dict().items())
    first, second = integer_program(small), integer_program(again)
    for ours, theirs in zip(
        (*first.identity, first.shrink, first.transform), (*second.identity, second.shrink, second.transform),
        strict=True,
    ):  # fmt: skip
        assert all(torch.equal(torch.as_tensor(a), torch.as_tensor(b)) for a, b in zip(ours, theirs, strict=True))
    assert torch.equal(first.books, second.books)


def test_integer_models_match_and_decode_as_others_do(integer_model: Path) -> None:
    encoder, matcher = store.load_student(integer_model), Matcher.load(integer_model)
    group, tokens = encoder(torch.from_numpy(PICTURES[:4]))
    for layers in (1, 2):
        torch.testing.assert_close(matcher(group, tokens, layers).norm(dim=1), torch.ones(4))
    assert store.load_decoder(integer_model).decode(group, tokens).shape == (4, 128, 128, 3)


def test_files_of_a_float_student_are_refused_by_name(integer_model: Path, tiny_model: Path, tmp_path: Path) -> None:
    for name in ("student.safetensors", "codebooks.safetensors"):
        (tmp_path / name).write_bytes((tiny_model / name).read_bytes())
    model_folder.load_config(integer_model).save(tmp_path / "config.json")
    with pytest.raises(EdgeError, match=r"student.safetensors does not fit config.json"):
        store.load_student(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"group_rule": "router"}, "group_rule must be"),
        ({"layers": [{"name": "only", "identity": 2, "spatial": 1, "identity_dims": 8}]}, "needs spatial_dims"),
        ({"layers": [{"name": "only", "identity": 2, "spatial": 0, "identity_dims": 8}]}, "at least one spatial"),
        ({"student_layers": [{"outputs": 8}, {"outputs": 12, "depthwise": True}]}, "must be a multiple of 8"),
    ],
)
def test_a_student_that_cannot_be_built_is_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        CodecConfig.model_validate(integer_config().model_dump() | change)

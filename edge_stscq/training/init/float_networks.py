"""Starting points of float networks: a stage's teacher and decoder, and a student of the teacher."""

from pathlib import Path

import torch

from edge_stscq.codec import store
from edge_stscq.codec.decoder import Decoder
from edge_stscq.codec.encoder import EdgeEncoder, student, teacher
from edge_stscq.codec.trunk import IdentityTrunk
from edge_stscq.config.recipe import Stage
from edge_stscq.data.loader import FaceSet
from edge_stscq.errors import EdgeError
from edge_stscq.training.embeddings import cached_embeddings
from edge_stscq.training.init.kmeans import fit_codebooks, refit_codebooks
from edge_stscq.training.init.latents import Latents, latents
from edge_stscq.training.init.linear import collect_features, fit_sketch, fit_transform, pca_targets
from edge_stscq.training.run import TrainingRun, require_kind

_LLOYD = 15
"""Iterations of k-means."""


def begin_stage(
    run: TrainingRun, stage: Stage, previous: Path | None, trunk: IdentityTrunk, faces: FaceSet,
    embeddings: torch.Tensor,
) -> tuple[EdgeEncoder, Decoder]:  # fmt: skip
    """Networks at the start of a stage: fresh, or the previous stage's with codebooks of this stage's kind."""
    recipe = run.recipe
    config = recipe.codec.model_copy(
        update={"token_specific": recipe.codec.token_specific and stage.tokens != "shared"}
    )
    torch.manual_seed(recipe.seed)
    encoder, decoder = teacher(config), Decoder(config)
    encoder.backbone.identity.load_state_dict(trunk.state_dict())
    if previous is None:
        typical = cached_embeddings(run.typical(), trunk, run.cache, run.reporter, run.device)
        encoder.head.identity.fit(embeddings.flatten(0, 1), typical.flatten(0, 1))
        pooled, pictures = collect_features(encoder, faces, recipe.latents, run.reporter, run.device)
        fit_transform(encoder.cpu(), pooled, pictures, pca_targets(pictures, config))
        encoder.to(run.device)
        seen = latents(encoder, faces, embeddings, recipe.latents, run.reporter, run.device)
        z = seen.z
        if config.token_specific:
            books = fit_codebooks(None, z, seen.group, config.groups, config.entries, _LLOYD, recipe.seed)
        else:
            picks = torch.randperm(z.shape[0] * z.shape[1])[: config.groups * config.entries]
            books = z.flatten(0, 1)[picks].view_as(encoder.codebooks.books)
            books = books + 0.05 * torch.randn_like(books)
        _settle(encoder.cpu(), decoder, books, seen)
        return encoder, decoder
    before, old_decoder = (
        require_kind(store.load_teacher(previous), EdgeEncoder, previous),
        store.load_decoder(previous),
    )
    encoder.load_state_dict(before.state_dict() | {"codebooks.books": encoder.codebooks.books})
    decoder.load_state_dict(old_decoder.state_dict() | {"codebooks.books": decoder.codebooks.books})
    if stage.tokens == "shared" and before.config.token_specific:
        raise EdgeError(f"stage {stage.name} shares codebooks, {previous} has one for each position; drop the stage")
    index = recipe.stages.index(stage)
    earlier = recipe.stages[index - 1].tokens if index else stage.tokens
    # positions get codebooks of their own; later these settle once, when the encoder has stopped moving
    if config.token_specific and (stage.tokens, earlier) in (("specific", "shared"), ("frozen", "specific")):
        before.to(run.device)
        seen = latents(before, faces, embeddings, recipe.latents, run.reporter, run.device)
        books = fit_codebooks(
            before.codebooks.books.cpu(), seen.z, seen.group, config.groups, config.entries, _LLOYD, recipe.seed
        )
        if config.identity_tokens:  # all faces' embeddings are known, only some faces' latents
            who, positions = before.head.identity.cpu()(embeddings.flatten(0, 1)), before.head.identity_positions()
            books = refit_codebooks(books, positions, who, _LLOYD, recipe.seed)
        if stage.tokens == "specific":
            _settle(encoder, decoder, books, seen)
    else:
        books = before.codebooks.books
    encoder.codebooks.books.copy_(books)
    return encoder, decoder


def _settle(encoder: EdgeEncoder, decoder: Decoder, books: torch.Tensor, seen: Latents) -> None:
    """Take codebooks over and fit the decoder's sketches to their codewords."""
    encoder.codebooks.books.copy_(books)
    chosen = torch.cat([
        encoder.codebooks.distances(z, group).argmin(-1)
        for z, group in zip(seen.z.split(256), seen.group.split(256), strict=True)
    ])  # fmt: skip
    fit_sketch(decoder, encoder.codebooks.lookup(seen.group, chosen), seen.pictures)


@torch.no_grad()
def begin_student(run: TrainingRun, master: EdgeEncoder, faces: FaceSet, embeddings: torch.Tensor) -> EdgeEncoder:
    """Fresh student: the teacher's regions and router, a transform fitted to the teacher's token vectors."""
    recipe, reporter, device = run.recipe, run.reporter, run.device
    torch.manual_seed(recipe.seed)
    small = student(master.config)
    small.head.pooling.load_state_dict(master.head.pooling.state_dict())
    small.router.load_state_dict(master.router.state_dict())
    seen = latents(master.to(device), faces, embeddings, recipe.latents, reporter, device)
    pooled, pictures = collect_features(small, faces, recipe.latents, reporter, device)
    fit_transform(small.cpu(), pooled, pictures, seen.z[:, master.head.spatial_positions()])
    return small

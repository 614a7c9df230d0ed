"""Training of a float codec from a recipe to a model folder, stage by stage, each resumable and each leaving a model.

out/<stage>/          recipe.json, checkpoint, log.jsonl, sample pictures; model/ when the stage is done
out/identity/, out/student/   the same for the two phases of distillation
out/distilled/        their result: a complete model folder
out/finetune/         fine-tuning of the decoder on the student's tokens
out/model/            the result of all
"""

from pathlib import Path

import torch

from edge_stscq.bundle import model_folder
from edge_stscq.codec import store
from edge_stscq.codec.decoder import Decoder
from edge_stscq.codec.encoder import EdgeEncoder
from edge_stscq.codec.trunk import IdentityTrunk
from edge_stscq.config.recipe import Distillation
from edge_stscq.data.loader import FaceSet
from edge_stscq.errors import EdgeError
from edge_stscq.stream.tables import Tables
from edge_stscq.training.embeddings import cached_embeddings
from edge_stscq.training.init.float_networks import begin_stage, begin_student
from edge_stscq.training.init.latents import Latents, latents, token_counts
from edge_stscq.training.init.pruning import prune_on, pruned_trunks
from edge_stscq.training.loop import barrier, is_main, run_task
from edge_stscq.training.losses import FrozenRecognizer
from edge_stscq.training.run import LIGHT_AUGMENTATION, STRONG_AUGMENTATION, TrainingRun, publish, require_kind
from edge_stscq.training.stages.codec import CodecStage
from edge_stscq.training.stages.decoder_finetuning import DecoderFinetuning
from edge_stscq.training.stages.distillation import DistillSettings
from edge_stscq.training.stages.identity_distillation import IdentityDistillation
from edge_stscq.training.stages.token_distillation import TokenDistillation

_FEW = 3000
"""Crops that count tokens between stages; codebooks and the last tables see `recipe.latents`."""


def train(run: TrainingRun) -> Path:
    """Train teacher, router, codebooks and decoder; returns the last stage's model folder."""
    recipe, trunk, previous = run.recipe, run.trunk(), run.start
    faces = run.faces()
    embeddings = cached_embeddings(faces, trunk, run.cache, run.reporter, run.device)
    recognizer = FrozenRecognizer(trunk)
    for stage in recipe.stages:
        folder = run.out / stage.name
        model = folder / "model"
        if not (model / "tables.safetensors").exists():
            encoder, decoder = begin_stage(run, stage, previous, trunk, faces, embeddings)
            loader = run.loader(faces, recipe.batch, LIGHT_AUGMENTATION)
            task = CodecStage(encoder, decoder, recognizer, embeddings, loader, faces, recipe, stage, run.device)
            run_task(task, stage.name, stage.steps, folder, run.intervals, run.resumes(folder), run.reporter)
            loader.close()
            task.finish()
            if is_main():
                count = recipe.latents if stage is recipe.stages[-1] else _FEW
                seen = latents(encoder, faces, embeddings, count, run.reporter, run.device)
                _save(model, encoder.cpu(), decoder.cpu(), seen)
            barrier()
        previous = model
    assert previous is not None
    return previous


def _save(folder: Path, encoder: EdgeEncoder, decoder: Decoder, seen: Latents) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    encoder.config.save(folder / "config.json")
    store.save_teacher(folder, encoder)
    store.save_decoder(folder, decoder)
    config = encoder.config
    books = encoder.codebooks.books.expand(-1, config.tokens, -1, -1)
    counts, group_counts = token_counts(books, seen.z, seen.group)
    Tables.from_counts(counts, group_counts, config.layer_ends).save(folder / "tables.safetensors")


def distill(run: TrainingRun, model: Path) -> Path:
    """Train the student of the teacher in `model`; returns the model folder `out/distilled`."""
    plan = run.recipe.distillation
    assert plan is not None
    trunk, faces, earlier = run.trunk(), run.faces(), None
    if run.start:
        earlier = require_kind(store.load_student(run.start), EdgeEncoder, run.start).requires_grad_(True)
    distilled = _distill_identity(run, plan, trunk, faces, earlier, model_folder.load_config(model).student_trunk)
    embeddings = torch.empty(0)
    if plan.token_steps or not earlier:
        embeddings = cached_embeddings(faces, trunk, run.cache, run.reporter, run.device)
    teacher = require_kind(store.load_teacher(model), EdgeEncoder, model)
    student = earlier or begin_student(run, teacher, faces, embeddings)
    student.backbone.identity.load_state_dict(store.load_weights(distilled))
    folder = run.out / "student"
    loader = run.loader(faces, plan.batch, STRONG_AUGMENTATION)
    settings = DistillSettings(plan.token_steps, plan.batch, plan.token_rate, blends=plan.blends)
    task = TokenDistillation(teacher, student, embeddings, loader, settings, run.device)
    run_task(task, "student", plan.token_steps, folder, run.intervals, run.resumes(folder), run.reporter)
    loader.close()
    done = task.result().cpu()
    return publish(run, model, "distilled", lambda part: store.save_student(part, done))


def _distill_identity(
    run: TrainingRun, plan: Distillation, trunk: IdentityTrunk, faces: FaceSet, earlier: EdgeEncoder | None,
    channels: tuple[int, ...],
) -> Path:  # fmt: skip
    """Train the student's identity trunk, from an earlier student's or from a pruned one; returns its file."""
    folder = run.out / "identity"
    result = folder / "trunk.safetensors"
    if result.exists():
        return result
    loader = run.loader(faces, plan.batch, STRONG_AUGMENTATION)
    if earlier is None:
        start = prune_on(trunk, channels, faces, STRONG_AUGMENTATION, run.recipe.seed, run.reporter)
    else:
        start = earlier.backbone.identity
    settings = DistillSettings(plan.identity_steps, plan.batch, plan.identity_rate, blends=plan.blends)
    task = IdentityDistillation(start, trunk, loader, settings, run.device)
    run_task(task, "identity", plan.identity_steps, folder, run.intervals, run.resumes(folder), run.reporter)
    loader.close()
    if is_main():
        store.save_weights(result, task.result().state_dict())
    barrier()
    return result


def finetune(run: TrainingRun, model: Path) -> Path:
    """Fine-tune the decoder of `model` on its student's tokens; returns the complete model folder `out/model`.

    Raises:
        EdgeError: the recipe has no such phase.
    """
    recipe, plan = run.recipe, run.recipe.finetuning
    if plan is None:
        raise EdgeError("the recipe has no table [finetuning]; add one, as recipes/release.toml shows")
    folder = run.out / "finetune"
    encoder, decoder = require_kind(store.load_student(model), EdgeEncoder, model), store.load_decoder(model)
    faces, trunk = run.faces(), run.trunk()
    pruned = pruned_trunks(trunk, plan.trunks, faces, STRONG_AUGMENTATION, recipe.seed, folder, run.reporter)
    recognizers = [FrozenRecognizer(each) for each in (trunk, encoder.backbone.identity, *pruned)]
    loader = run.loader(faces, plan.batch, LIGHT_AUGMENTATION)
    task = DecoderFinetuning(
        encoder, decoder, recognizers, loader, run.preview(faces), plan, recipe.average, run.device
    )
    run_task(task, "finetune", plan.steps, folder, run.intervals, run.resumes(folder), run.reporter)
    loader.close()
    done = task.result()
    return publish(run, model, "model", lambda part: store.save_decoder(part, done))

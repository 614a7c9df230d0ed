"""Training of a codec whose student is made for integers, from a recipe to a model folder.

out/closed-form/     components, codebooks, tables and a first decoder; model/ holds them
out/front/, out/student/   the student: layers that learn another trunk's map, and its distillation
out/distilled/       the model with its student
out/finetune/        the decoder on the student's tokens, from a later step on before a critic
out/model/           the result of all
"""

import json
import shutil
from pathlib import Path

import numpy as np
import torch

from edge_stscq.codec import store
from edge_stscq.codec.encoder import EdgeEncoder
from edge_stscq.codec.integer.encoder import IntegerEncoder, ReferenceEncoder, TokenEncoder
from edge_stscq.data.loader import Augmentation, FaceSet
from edge_stscq.errors import EdgeError
from edge_stscq.stream.learned.weights import FILE as LEARNED
from edge_stscq.training.embeddings import cached_embeddings, trunk_input
from edge_stscq.training.init.closed_form import BookFit, fit_codebooks
from edge_stscq.training.init.controls import controls
from edge_stscq.training.init.decoder import first_decoder, load_training, save_training
from edge_stscq.training.init.integer_student import (
    fit_projection,
    fit_steps,
    shared_layers,
    take_over_layers,
    take_over_student,
)
from edge_stscq.training.init.pruning import pruned_trunks
from edge_stscq.training.init.samples import (
    code,
    code_pictures,
    count_tables,
    draw_sample,
    fit_components,
    read_thumbnails,
)
from edge_stscq.training.loop import LOG, barrier, is_main, run_task
from edge_stscq.training.losses import FrozenRecognizer
from edge_stscq.training.options import TokensOf
from edge_stscq.training.precision import choose_precision
from edge_stscq.training.run import STRONG_AUGMENTATION, TrainingRun, publish, require_kind
from edge_stscq.training.stages.decoder import DecoderStage
from edge_stscq.training.stages.front_matching import FrontMatching
from edge_stscq.training.stages.integer_student import IntegerDistillation

_DECODED = Augmentation(shift=2, rotation=2, scale=0.02, brightness=0.1, contrast=0.1)
_FITTED = 256
"""Crops by which steps and scales are set."""


def train(run: TrainingRun) -> Path:
    """Fit all that needs no training; returns the model folder `out/closed-form/model`.

    Raises:
        EdgeError: it is there already, of another recipe; or `--resume` is missing.
    """
    folder = run.out / "closed-form"
    model = folder / "model"
    resumed = run.resumes(folder, "model/config.json")
    if (model / "config.json").exists():
        if not resumed:
            raise EdgeError(f"{model} exists; add --resume to keep it, or choose another folder")
        return model
    _fit(run, folder)
    barrier()
    return model


@torch.no_grad()
def _fit(run: TrainingRun, folder: Path) -> None:
    """Fit the model in every process alike, since they read their crops together; the first one writes it."""
    recipe, config = run.recipe, run.recipe.codec
    assert recipe.closed_form is not None
    plan = BookFit(recipe.closed_form.iterations, recipe.seed, recipe.closed_form.free)
    faces, trunk = run.faces(), run.trunk()
    sample = draw_sample(faces, recipe.latents)
    embeddings = cached_embeddings(faces, trunk, run.cache, run.reporter, run.device, sample.chosen).flatten(0, 1)
    typical_faces = run.typical()
    chosen = draw_sample(typical_faces, recipe.latents).chosen
    typical = cached_embeddings(typical_faces, trunk, run.cache, run.reporter, run.device, chosen).flatten(0, 1)
    thumbnails = read_thumbnails(faces, sample.chosen, run.reporter)
    weight = sample.weight.repeat_interleave(2)
    torch.manual_seed(recipe.seed)
    teacher = ReferenceEncoder(config).eval().requires_grad_(False)
    teacher.trunk.load_state_dict(trunk.cpu().state_dict())
    z = fit_components(teacher, embeddings, typical, thumbnails, weight)
    rows = []
    for number, control in enumerate(controls(z, config, plan, weight), 1):
        run.reporter.say(str(control))
        rows.append(json.dumps({"stage": "controls", "step": number} | control._asdict()) + "\n")
    teacher.codebooks.books.copy_(fit_codebooks(z, config, plan, weight).books)
    coded = code(teacher, z)
    decoder = first_decoder(teacher, coded, thumbnails, run.start, faces, sample.chosen, run.reporter, run.device)
    if not is_main():
        return
    (folder / LOG).write_text("".join(rows))
    part = folder / "model.part"
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir()
    config.save(part / "config.json")
    store.save_teacher(part, teacher)
    store.save_decoder(part, decoder)
    count_tables(config, coded, weight).save(part / "tables.safetensors")
    shutil.copy(folder / LOG, part / LOG)
    part.rename(folder / "model")


def distill(run: TrainingRun, model: Path, new_tables: bool = False) -> Path:
    """Train the student of the teacher in `model`; returns the model folder `out/distilled`.

    Args:
        new_tables: count the frequency tables anew on the student's tokens, which gives the model another id.
    """
    recipe, plan = run.recipe, run.recipe.student
    assert plan is not None
    folder = run.out / "student"
    resumed = run.resumes(folder)
    precision = choose_precision(run.precision, run.device)
    run.reporter.say(f"precision: {precision.reason}")
    teacher = require_kind(store.load_teacher(model), ReferenceEncoder, model)
    faces = run.faces()
    torch.manual_seed(recipe.seed)
    student = IntegerEncoder(teacher.config)
    given = {name: value for name, value in teacher.state_dict().items() if not name.startswith("trunk.")}
    student.load_state_dict(given, strict=False)
    taken = _begin_student(run, student, teacher, faces)
    loader = run.loader(faces, plan.batch, STRONG_AUGMENTATION)
    task = IntegerDistillation(teacher, student, loader, plan, recipe.average, precision, run.device, taken)
    run_task(task, "student", plan.steps, folder, run.intervals, resumed, run.reporter)
    loader.close()
    done = task.result()
    tables = None
    if new_tables:
        sample = draw_sample(faces, recipe.latents)
        coded = code_pictures(done, faces, sample.chosen, run.reporter, run.device)
        tables = count_tables(done.config, coded, sample.weight.repeat_interleave(2))

    def change(part: Path) -> None:
        store.save_student(part, done)
        if tables is not None:
            tables.save(part / "tables.safetensors")
            (part / LEARNED).unlink(missing_ok=True)  # fitted on the tokens that the earlier tables count

    return publish(run, model, "distilled", change)


def _begin_student(run: TrainingRun, student: IntegerEncoder, teacher: ReferenceEncoder, faces: FaceSet) -> int:
    """Set where the student starts, in place; returns how many of its last layers were taken over.

    Raises:
        EdgeError: the student to start from is made for integers and has other layers.
    """
    plan = run.recipe.student
    assert plan is not None
    spread = np.linspace(0, len(faces) - 1, min(_FITTED, len(faces))).astype(np.int64).tolist()
    pictures = trunk_input(torch.from_numpy(np.stack([faces.crop(index) for index in spread])))
    earlier = None if run.start is None else store.load_student(run.start)
    if isinstance(earlier, IntegerEncoder):
        try:
            take_over_student(student, earlier)
        except ValueError as error:
            raise EdgeError(f"the student of {run.start} has other layers ({error}); leave --start out") from None
        return 0
    if isinstance(earlier, EdgeEncoder):
        trunk = earlier.backbone.identity
        if shared := shared_layers(student.identity, trunk):
            kept = take_over_layers(student.identity, trunk, shared, pictures)
            if plan.front and shared < len(student.identity.layers):
                folder = run.out / "front"
                loader = run.loader(faces, plan.batch, STRONG_AUGMENTATION)
                task = FrontMatching(student.identity, trunk, shared, loader, plan.front, run.device)
                run_task(task, "front", plan.front, folder, run.intervals, run.resumes(folder), run.reporter)
                loader.close()
                task.finish()
                student.cpu()
                trunk.cpu()
            fit_projection(student.identity, trunk, kept, teacher, pictures)
            return shared
        run.reporter.say(f"no layer of the student of {run.start} fits; the student starts afresh")
    fit_steps(student.identity, pictures)
    return 0


def finetune(run: TrainingRun, model: Path, tokens_of: TokensOf = TokensOf.STUDENT) -> Path:
    """Train the decoder of `model` on an encoder's tokens; returns the complete model folder `out/model`.

    Args:
        tokens_of: whose tokens they are.

    Raises:
        EdgeError: the model to start from has other codebooks.
    """
    recipe, plan = run.recipe, run.recipe.decoder
    assert plan is not None
    folder = run.out / "finetune"
    resumed = run.resumes(folder)
    precision = choose_precision(run.precision, run.device)
    run.reporter.say(f"precision: {precision.reason}")
    load = store.load_student if tokens_of is TokensOf.STUDENT else store.load_teacher
    encoder = require_kind(load(model), TokenEncoder, model)
    decoder, heads = store.load_decoder(model), None
    if run.start is not None:
        begun = store.load_decoder(run.start)
        heads = load_training(run.start, begun)
        same = begun.config.layers == decoder.config.layers
        if not (same and torch.equal(begun.codebooks.books, decoder.codebooks.books)):
            raise EdgeError(f"{run.start} has other codebooks than {model}; `train --start` translates between them")
        decoder = begun
    faces = run.faces()
    trunk = run.trunk()
    pruned = pruned_trunks(trunk, plan.trunks, faces, STRONG_AUGMENTATION, recipe.seed, folder, run.reporter)
    loader = run.loader(faces, plan.batch, _DECODED)
    recognizers = [FrozenRecognizer(each) for each in (*pruned, trunk)]
    task = DecoderStage(
        encoder, decoder, recognizers, loader, run.preview(faces), plan, recipe.average, precision,
        run.device,
    )  # fmt: skip
    if heads is not None and task.critic is not None:
        task.critic.heads.load_state_dict(heads)
    run_task(task, "finetune", plan.steps, folder, run.intervals, resumed, run.reporter)
    loader.close()
    heads = None if task.critic is None else task.critic.heads.state_dict()
    done = task.result()

    def change(part: Path) -> None:
        store.save_decoder(part, done)
        save_training(part, done, heads)

    return publish(run, model, "model", change)

"""From a recipe to a model folder: the stages one after the other, each resumable and each leaving a model.

out/<stage>/          recipe.json, checkpoint, log.jsonl, sample pictures; model/ when the stage is done
out/identity/, out/student/   the same for the two phases of distillation
out/distilled/        their result: a complete model folder
out/finetune/         fine-tuning of the decoder on the student's tokens
out/model/            the result of all
"""

import contextlib
import ctypes
import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch
import torch.distributed as dist
from rich.console import Console
from rich.progress import Progress
from torch import nn

from edge_stscq.codec import store
from edge_stscq.codec.decoder import Decoder
from edge_stscq.codec.encoder import EdgeEncoder, student, teacher
from edge_stscq.codec.trunk import IdentityTrunk
from edge_stscq.config.codec import CodecConfig
from edge_stscq.config.recipe import Recipe, Stage
from edge_stscq.data.completion import complete_set
from edge_stscq.data.loader import Augmentation, FaceSet, Loader
from edge_stscq.errors import EdgeError
from edge_stscq.recognizers.sface import load_sface
from edge_stscq.stream.tables import Tables
from edge_stscq.training.distill import DistillSettings, IdentityDistillation, TokenDistillation
from edge_stscq.training.embeddings import cached_embeddings, centre
from edge_stscq.training.finetune import DecoderTask
from edge_stscq.training.initial import fit_sketch, fit_transform, pool_all, principal_vectors
from edge_stscq.training.latents import Latents, fit_codebooks, latents, refit, token_counts
from edge_stscq.training.loop import CHECKPOINT, LOG, Intervals, is_main, progress_bar, run
from edge_stscq.training.losses import Recogniser
from edge_stscq.training.options import PrecisionName
from edge_stscq.training.pruning import prune
from edge_stscq.training.task import CodecTask

_FEW = 3000
"""Crops that count tokens between stages; codebooks and the last tables see `recipe.latents`."""
_LLOYD = 15
_PRUNED_ON = 3000
"""Crops that the student's trunk is fitted to in closed form."""
STEADY = Augmentation(shift=2, rotation=2, scale=0.02)
VARIED = Augmentation(shift=4, rotation=6, brightness=0.15, contrast=0.15)
"""How crops are changed where pictures are learned, and where they are only recognised."""


@dataclass(frozen=True)
class Run:
    """Where a training reads and writes, and on what it runs."""

    recipe: Recipe
    data: Path
    out: Path
    cache: Path
    resume: bool
    intervals: Intervals
    device: torch.device
    start: Path | None = None
    """Model folder to improve, instead of starting afresh."""
    precision: PrecisionName = PrecisionName.AUTO

    def resumes(self, folder: Path, result: str = CHECKPOINT) -> bool:
        """Whether the phase in `folder` goes on from its `result`; one that begins has its recipe noted there.

        Raises:
            EdgeError: it was begun with another recipe.
        """
        kept, recipe = folder / "recipe.json", self.recipe.model_dump(mode="json", exclude={"parity"})
        if not (folder / result).exists():
            if is_main():
                folder.mkdir(parents=True, exist_ok=True)
                kept.write_text(json.dumps(recipe, indent=1))
            return False
        if self.resume and kept.exists() and (changed := _differences(json.loads(kept.read_text()), recipe)):
            raise EdgeError(
                f"{folder} was begun with another recipe ({', '.join(changed)} changed); take that recipe back, or go "
                "on from its model in another folder"
            )
        return self.resume

    def faces(self, progress: Progress) -> FaceSet:
        """The training set, completed where its crops are not all picture."""
        return self._completed(self.recipe.faces, progress)

    def typical(self, progress: Progress) -> FaceSet:
        """Those of the training set that are like the cameras' pictures."""
        return self._completed(self.recipe.typical or self.recipe.faces, progress)

    def preview(self, progress: Progress, faces: FaceSet) -> FaceSet:
        """The faces of sample pictures: the recipe's, or the training set itself."""
        return self._completed(self.recipe.preview, progress, faces) if self.recipe.preview else faces

    def _completed(self, names: Sequence[str], progress: Progress, fitted: FaceSet | None = None) -> FaceSet:
        """Crops completed by components of `fitted`, or of themselves; one process of several makes the file."""
        components = self.recipe.completion
        faces = FaceSet([self.data / name for name in names], masked=components > 0)
        path = self.cache.with_name(f"completion-{components}.safetensors")
        if not is_main():
            dist.barrier()
        complete_set(faces, fitted or faces, components, path, progress)
        if dist.is_initialized() and is_main():
            dist.barrier()
        return faces

    def trunk(self) -> IdentityTrunk:
        return load_sface(store.load_weights(self.data / self.recipe.recogniser))

    def loader(self, faces: FaceSet, batch: int, change: Augmentation) -> Loader:
        rank, world = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
        return Loader(faces, batch, self.recipe.seed, change, rank, world)


_Kind = TypeVar("_Kind", bound=nn.Module)


def of_kind(encoder: nn.Module, kind: type[_Kind], model: Path) -> _Kind:
    """The same encoder.

    Raises:
        EdgeError: it is of the other kind, made for integers or not, than the recipe's.
    """
    if not isinstance(encoder, kind):
        raise EdgeError(f"{model} is of a recipe of the other kind (student_layers or none); train it by its own")
    return encoder


@contextmanager
def devices(name: str) -> Iterator[torch.device]:
    """The device of this process; under `torchrun` each process joins the group and takes its own GPU.

    Raises:
        EdgeError: CUDA is asked for and not there.
    """
    torch.set_flush_denormal(True)
    _keep_memory()
    if name == "cuda" and not torch.cuda.is_available():
        raise EdgeError("torch sees no CUDA device; use --accelerator cpu or install a CUDA build of torch")
    device = torch.device(name)
    if "RANK" not in os.environ:
        yield device
        return
    dist.init_process_group("nccl" if name == "cuda" else "gloo")
    try:
        if name == "cuda":
            device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
            torch.cuda.set_device(device)
        yield device
    finally:
        dist.destroy_process_group()


def _differences(old: object, new: object, name: str = "") -> list[str]:
    """Dotted names of the settings that differ between two recipes."""
    if not isinstance(old, dict) or not isinstance(new, dict):
        return [] if old == new else [name.removeprefix(".")]
    keys = sorted(old.keys() | new.keys())
    return [found for key in keys for found in _differences(old.get(key), new.get(key), f"{name}.{key}")]


def _keep_memory() -> None:
    """Let glibc keep freed blocks: handing them back and faulting them in again halves the speed of CPU training."""
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL("libc.so.6").mallopt
        mallopt(-4, 0)  # M_MMAP_MAX: large blocks come from the heap, not from fresh pages
        mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD
        mallopt(-2, 2**28)  # M_TOP_PAD


def train(job: Run, console: Console) -> Path:
    """Train teacher, router, codebooks and decoder; returns the last stage's model folder."""
    recipe = job.recipe
    trunk = job.trunk()
    previous = job.start
    with progress_bar(console) as progress:
        faces = job.faces(progress)
        embeddings = cached_embeddings(faces, trunk, job.cache, progress, job.device)
        recogniser = Recogniser(trunk)
        for stage in recipe.stages:
            folder = job.out / stage.name
            model = folder / "model"
            if not (model / "tables.safetensors").exists():
                encoder, decoder = _begin(stage, recipe, previous, trunk, faces, embeddings, progress, job)
                loader = job.loader(faces, recipe.batch, STEADY)
                task = CodecTask(encoder, decoder, recogniser, embeddings, loader, faces, recipe, stage, job.device)
                run(task, stage.name, stage.steps, folder, job.intervals, job.resumes(folder), progress)
                loader.close()
                task.finish()
                if is_main():
                    count = recipe.latents if stage is recipe.stages[-1] else _FEW
                    seen = latents(encoder, faces, embeddings, count, progress, job.device)
                    _save(model, encoder.cpu(), decoder.cpu(), seen)
                if dist.is_initialized():
                    dist.barrier()
            previous = model
    assert previous is not None
    return previous


def _begin(
    stage: Stage, recipe: Recipe, previous: Path | None, trunk: IdentityTrunk, faces: FaceSet,
    embeddings: torch.Tensor, progress: Progress, job: Run,
) -> tuple[EdgeEncoder, Decoder]:  # fmt: skip
    """Networks at the start of a stage: fresh, or the previous stage's with codebooks of this stage's kind."""
    config = recipe.codec.model_copy(
        update={"token_specific": recipe.codec.token_specific and stage.tokens != "shared"}
    )
    torch.manual_seed(recipe.seed)
    encoder, decoder = teacher(config), Decoder(config)
    encoder.backbone.identity.load_state_dict(trunk.state_dict())
    if previous is None:
        typical = cached_embeddings(job.typical(progress), trunk, job.cache, progress, job.device)
        encoder.head.identity.fit(embeddings.flatten(0, 1), typical.flatten(0, 1))
        pooled, pictures = pool_all(encoder, faces, recipe.latents, progress, job.device)
        fit_transform(encoder.cpu(), pooled, pictures, principal_vectors(pictures, config))
        encoder.to(job.device)
        seen = latents(encoder, faces, embeddings, recipe.latents, progress, job.device)
        z = seen.z
        if config.token_specific:
            books = fit_codebooks(None, z, seen.group, config.groups, config.entries, _LLOYD, recipe.seed)
        else:
            picks = torch.randperm(z.shape[0] * z.shape[1])[: config.groups * config.entries]
            books = z.flatten(0, 1)[picks].view_as(encoder.codebooks.books)
            books = books + 0.05 * torch.randn_like(books)
        _settle(encoder.cpu(), decoder, books, seen)
        return encoder, decoder
    before, old_decoder = of_kind(store.load_teacher(previous), EdgeEncoder, previous), store.load_decoder(previous)
    encoder.load_state_dict(before.state_dict() | {"codebooks.books": encoder.codebooks.books})
    decoder.load_state_dict(old_decoder.state_dict() | {"codebooks.books": decoder.codebooks.books})
    if stage.tokens == "shared" and before.config.token_specific:
        raise EdgeError(f"stage {stage.name} shares codebooks, {previous} has one for each position; drop the stage")
    index = recipe.stages.index(stage)
    earlier = recipe.stages[index - 1].tokens if index else stage.tokens
    # positions get codebooks of their own; later these settle once, when the encoder has stopped moving
    if config.token_specific and (stage.tokens, earlier) in (("specific", "shared"), ("frozen", "specific")):
        before.to(job.device)
        seen = latents(before, faces, embeddings, recipe.latents, progress, job.device)
        books = fit_codebooks(
            before.codebooks.books.cpu(), seen.z, seen.group, config.groups, config.entries, _LLOYD, recipe.seed
        )
        if config.identity_tokens:  # all faces' embeddings are known, only some faces' latents
            who, positions = before.head.identity.cpu()(embeddings.flatten(0, 1)), before.head.identity_positions()
            books = refit(books, positions, who, _LLOYD, recipe.seed)
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


def _save(folder: Path, encoder: EdgeEncoder, decoder: Decoder, seen: Latents) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    encoder.config.save(folder / "config.json")
    store.save_teacher(folder, encoder)
    store.save_decoder(folder, decoder)
    config = encoder.config
    books = encoder.codebooks.books.expand(-1, config.tokens, -1, -1)
    counts, group_counts = token_counts(books, seen.z, seen.group)
    Tables.from_counts(counts, group_counts, config.layer_ends).save(folder / "tables.safetensors")


def _float_encoder(load: Callable[[Path], nn.Module], folder: Path) -> EdgeEncoder:
    """Load an encoder that these phases train.

    Raises:
        EdgeError: the model's student is made for integers.
    """
    encoder = load(folder)
    if not isinstance(encoder, EdgeEncoder):
        raise EdgeError(f"{folder} has a student made for integers, which this training cannot go on from")
    return encoder


def distil(job: Run, model: Path, console: Console) -> Path:
    """Train the student of the teacher in `model`; returns the model folder `out/distilled`."""
    recipe, plan = job.recipe, job.recipe.distillation
    assert plan is not None
    config: CodecConfig = store.load_config(model)
    trunk = job.trunk()
    settings: Callable[[int, float], DistillSettings] = lambda steps, rate: DistillSettings(  # noqa: E731
        steps, plan.batch, rate, blends=plan.blends
    )
    with progress_bar(console) as progress:
        faces = job.faces(progress)
        earlier = None
        if job.start:
            earlier = of_kind(store.load_student(job.start), EdgeEncoder, job.start).requires_grad_(True)
        folder = job.out / "identity"
        result = folder / "trunk.safetensors"
        if not result.exists():
            loader = job.loader(faces, plan.batch, VARIED)
            begun = (
                earlier.backbone.identity
                if earlier
                else _prune(trunk, config.student_trunk, faces, job, recipe.seed, progress)
            )
            phase = settings(plan.identity_steps, plan.identity_rate)
            first = IdentityDistillation(begun, trunk, loader, phase, job.device)
            run(first, "identity", plan.identity_steps, folder, job.intervals, job.resumes(folder), progress)
            loader.close()
            if is_main():
                store.save_weights(result, first.result().state_dict())
            if dist.is_initialized():
                dist.barrier()
        embeddings = torch.empty(0)
        if plan.token_steps or not earlier:
            embeddings = cached_embeddings(faces, trunk, job.cache, progress, job.device)
        master = of_kind(store.load_teacher(model), EdgeEncoder, model)
        small = earlier or _begin_student(master, faces, embeddings, recipe, progress, job.device)
        small.backbone.identity.load_state_dict(store.load_weights(result))
        folder = job.out / "student"
        loader = job.loader(faces, plan.batch, VARIED)
        second = TokenDistillation(
            master, small, embeddings, loader, settings(plan.token_steps, plan.token_rate), job.device
        )
        run(second, "student", plan.token_steps, folder, job.intervals, job.resumes(folder), progress)
        loader.close()
    done = second.result().cpu()
    return renewed(job, model, "distilled", lambda folder: store.save_student(folder, done))


def finetune(job: Run, model: Path, console: Console) -> Path:
    """Fine-tune the decoder of `model` on its student's tokens; returns the complete model folder `out/model`.

    Raises:
        EdgeError: the recipe has no such phase.
    """
    recipe, plan = job.recipe, job.recipe.finetuning
    if plan is None:
        raise EdgeError("the recipe has no table [finetuning]; add one, as recipes/release.toml shows")
    folder = job.out / "finetune"
    encoder, decoder = of_kind(store.load_student(model), EdgeEncoder, model), store.load_decoder(model)
    with progress_bar(console) as progress:
        faces = job.faces(progress)
        looks = [job.trunk(), encoder.backbone.identity, *pruned_trunks(job, plan.trunks, faces, folder, progress)]
        loader = job.loader(faces, plan.batch, STEADY)
        recognisers = [Recogniser(trunk) for trunk in looks]
        shown = job.preview(progress, faces)
        task = DecoderTask(encoder, decoder, recognisers, loader, shown, plan, recipe.average, job.device)
        run(task, "finetune", plan.steps, folder, job.intervals, job.resumes(folder), progress)
        loader.close()
    done = task.result()
    return renewed(job, model, "model", lambda part: store.save_decoder(part, done))


def renewed(job: Run, model: Path, name: str, change: Callable[[Path], None]) -> Path:
    """The folder `out/name`: a copy of `model` with a change made to it and the log of what `out` holds."""
    target, temporary = job.out / name, job.out / f"{name}.part"
    if is_main():
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.copytree(model, temporary)
        change(temporary)
        stages = [stage.name for stage in job.recipe.stages]
        phases = ("closed-form", *stages, "identity", "front", "student", "finetune")
        logs = [job.out / phase / LOG for phase in phases]
        (temporary / LOG).write_text("".join(path.read_text() for path in logs if path.exists()))
        shutil.rmtree(target, ignore_errors=True)
        temporary.rename(target)
    return target


def pruned_trunks(
    job: Run, channels: Sequence[tuple[int, ...]], faces: FaceSet, folder: Path, progress: Progress
) -> list[IdentityTrunk]:
    """Trunks pruned from the recogniser, each with faces of its own, as files in `folder` hold them or made now."""
    trunks = []
    for index, widths in enumerate(channels):
        path = folder / f"trunk-{index}.safetensors"
        if not path.exists():
            made = _prune(job.trunk(), widths, faces, job, job.recipe.seed + 1 + index, progress)
            folder.mkdir(parents=True, exist_ok=True)
            store.save_weights(path, made.state_dict())
        trunks.append(IdentityTrunk(widths, plain=True))
        trunks[-1].load_state_dict(store.load_weights(path))
    return trunks


def _prune(
    trunk: IdentityTrunk, channels: tuple[int, ...], faces: FaceSet, job: Run, seed: int, progress: Progress
) -> IdentityTrunk:
    loader = Loader(faces, min(_PRUNED_ON, len(faces)), seed, VARIED)  # the same in every process
    pictures = centre(loader.get(0, ahead=0).images).contiguous(memory_format=torch.channels_last)
    loader.close()
    return prune(trunk, channels, pictures, progress)


@torch.no_grad()
def _begin_student(
    master: EdgeEncoder, faces: FaceSet, embeddings: torch.Tensor, recipe: Recipe, progress: Progress,
    device: torch.device,
) -> EdgeEncoder:  # fmt: skip
    """A fresh student: the teacher's regions and router, a transform fitted to the teacher's token vectors."""
    torch.manual_seed(recipe.seed)
    small = student(master.config)
    small.head.pooling.load_state_dict(master.head.pooling.state_dict())
    small.router.load_state_dict(master.router.state_dict())
    seen = latents(master.to(device), faces, embeddings, recipe.latents, progress, device)
    pooled, pictures = pool_all(small, faces, recipe.latents, progress, device)
    fit_transform(small.cpu(), pooled, pictures, seen.z[:, master.head.spatial_positions()])
    return small

"""The verbs: from faces to a model, from a model to bundles, and how good they are.

The command line parses, calls one of these and prints. Importing this module brings neither torch nor numpy; a verb
imports what it needs, and a missing extra is named. What takes long tells its progress through `steps`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

from edge_stscq._progress import Steps, no_steps
from edge_stscq._reporter import SILENCE, Reporter
from edge_stscq.errors import EdgeError, require

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from edge_stscq.bundle import Bundle
    from edge_stscq.bundle.manifest import Precision
    from edge_stscq.bundle.match_rule import MatchRule
    from edge_stscq.codec.model import Codec
    from edge_stscq.config.template_thresholds import TemplateThresholds
    from edge_stscq.config.thresholds import Thresholds
    from edge_stscq.data.crops import Faces
    from edge_stscq.evaluation.false_matches import People
    from edge_stscq.evaluation.parity.report import ParityReport
    from edge_stscq.evaluation.rate.curves import RateReport
    from edge_stscq.evaluation.speed.report import EncodeReport
    from edge_stscq.evaluation.verification.layers import VerificationReport
    from edge_stscq.evaluation.verification.pairs import Pairs
    from edge_stscq.stream.packed import CoderName
    from edge_stscq.training.run import TrainingRun
    from quantization import Calibration, Observer

    Crops: TypeAlias = NDArray[np.uint8] | Faces | Path | str
    """Crops uint8 [N, 128, 128, 3] in RGB, with or without names; or a folder or `.tar` of them."""


def train(
    recipe: Path | str, data: Path | str, output: Path | str = "runs/train", *, start: Path | str | None = None,
    resume: bool = False, precision: Literal["auto", "float32", "bfloat16"] = "auto", device: str = "cpu",
    threads: int = 0, log_every: int = 20, save_every: int = 200, reporter: Reporter = SILENCE,
) -> Path:  # fmt: skip
    """Fit or train teacher, codebooks and a first decoder, as a recipe says.

    Args:
        recipe: TOML file, see the folder recipes/.
        data: folder that the recipe's faces are relative to.
        output: folder for checkpoints, logs and the model.
        start: model to improve instead of starting afresh.
        resume: continue exactly where an interrupted run stopped.
        device: cpu or cuda; under torchrun, one process a GPU.
        threads: of the CPU; 0 leaves torch's choice.
        log_every, save_every: steps between lines of the log, and between checkpoints.
        reporter: told how far the stages are.

    Returns:
        Folder of the model with its teacher.

    Raises:
        EdgeError: the recipe or its faces cannot be used.

    Example:
        >>> teacher = train("recipes/release.toml", "data", "runs/mine")
        >>> student = distill("recipes/release.toml", teacher, "data", "runs/mine")
        >>> model = finetune("recipes/release.toml", student, "data", "runs/mine")
    """
    with _run(recipe, data, output, start, resume, precision, device, threads, log_every, save_every, reporter) as run:
        from edge_stscq.training import float_pipeline, integer_pipeline

        return (integer_pipeline.train if run.recipe.codec.student_layers else float_pipeline.train)(run)


def distill(
    recipe: Path | str, model: Path | str, data: Path | str, output: Path | str = "runs/train", *,
    start: Path | str | None = None, new_tables: bool = False, resume: bool = False,
    precision: Literal["auto", "float32", "bfloat16"] = "auto", device: str = "cpu", threads: int = 0,
    log_every: int = 20, save_every: int = 200, reporter: Reporter = SILENCE,
) -> Path:  # fmt: skip
    """Train the device's encoder to what the teacher makes of faces; arguments otherwise as in `train`.

    Args:
        model: with the teacher.
        new_tables: count frequency tables on the student's tokens, which makes a new model id.

    Returns:
        Folder of the model with its student.

    Raises:
        EdgeError: the recipe, the model or the faces cannot be used.

    Example:
        >>> student = distill("recipes/release.toml", teacher, "data", "runs/mine")
    """
    with _run(recipe, data, output, start, resume, precision, device, threads, log_every, save_every, reporter) as run:
        from edge_stscq.training import float_pipeline, integer_pipeline

        if run.recipe.codec.student_layers:
            return integer_pipeline.distill(run, Path(model), new_tables)
        if new_tables:
            raise EdgeError("--new-tables is for codecs with student_layers; this recipe's tables are its teacher's")
        return float_pipeline.distill(run, Path(model))


def finetune(
    recipe: Path | str, model: Path | str, data: Path | str, output: Path | str = "runs/train", *,
    start: Path | str | None = None, encoder: Literal["student", "teacher"] = "student", resume: bool = False,
    precision: Literal["auto", "float32", "bfloat16"] = "auto", device: str = "cpu", threads: int = 0,
    log_every: int = 20, save_every: int = 200, reporter: Reporter = SILENCE,
) -> Path:  # fmt: skip
    """Train the decoder on the tokens of the device's encoder; arguments otherwise as in `train`.

    Args:
        model: with the student.
        encoder: whose tokens the decoder learns on.

    Returns:
        Folder of the model with its decoder.

    Raises:
        EdgeError: the recipe, the model or the faces cannot be used.

    Example:
        >>> model = finetune("recipes/release.toml", student, "data", "runs/mine")
    """
    with _run(recipe, data, output, start, resume, precision, device, threads, log_every, save_every, reporter) as run:
        from edge_stscq.training import float_pipeline, integer_pipeline
        from edge_stscq.training.options import TokensOf

        if run.recipe.codec.student_layers:
            return integer_pipeline.finetune(run, Path(model), TokensOf(encoder))
        if start is not None or encoder == "teacher":
            raise EdgeError("--start and --encoder are for codecs with student_layers; leave them out")
        return float_pipeline.finetune(run, Path(model))


def quantize(
    codec: Codec, faces: Crops, held_out: Crops | None = None, *, min_agreement: float | None = None,
    keep: Collection[str] = (), observer: Observer = "mse", percentile: float = 99.99, correct_biases: bool = True,
    steps: Steps = no_steps,
) -> Calibration:  # fmt: skip
    """Make the student of a codec ready for int8 on real faces. Its weights change in memory: they are put on the grid.

    Args:
        faces: crops to calibrate with, 300 of all kinds or more.
        held_out: others to judge by; a fifth of `faces` if None.
        min_agreement: keep the fewest layers in float32 that give this share of equal tokens, 0..1.
        keep: layers that stay in float32 instead, by name.
        observer, percentile: how the range of an activation is chosen.
        correct_biases: take back how int8 shifts the mean of each channel.

    Returns:
        What `export` needs; `save` keeps it in a model folder, beside the student of `store.save_student`.

    Raises:
        EdgeError: a student made for integers needs none; or only full precision reaches `min_agreement`.

    Example:
        >>> codec = Codec.load("models/face64")
        >>> calibration = quantize(codec, "crops.tar", min_agreement=0.97)
        >>> bundle = export(codec, "onnx", calibration=calibration)
    """
    require("torch", "executorch")
    from edge_stscq.codec.encoder import EdgeEncoder
    from quantization.pipeline import quantize_student, split_faces

    student = codec.encoder
    if not isinstance(student, EdgeEncoder):
        raise EdgeError(f"{codec.name} of this codec is no float32 student, which alone needs a calibration")
    seen = _faces(faces).images
    seen, judged = split_faces(seen, 0.2) if held_out is None else (seen, _faces(held_out).images)
    return quantize_student(
        student, seen, judged, min_agreement=min_agreement, keep=keep, observer=observer, percentile=percentile,
        correct_biases=correct_biases, steps=steps,
    ).calibration  # fmt: skip


def export(
    codec: Codec, target: str = "onnx", precision: Precision = "int8", calibration: Calibration | None = None,
    output: Path | str = "bundles", *, force: bool = False, coder: CoderName = "static",
) -> Bundle:  # fmt: skip
    """Lower the student of a codec for one target, run the artifact in a fresh process and write its bundle.

    Args:
        target: onnx, executorch or coreml, or another name of one.
        precision: int8, w8 (int8 weights, float32 arithmetic) or fp32.
        calibration: for int8 and w8; that of the codec's folder if None.
        output: the bundle comes to TARGET-PRECISION in it.
        force: replace a bundle that is there.
        coder: of payloads; "packed" writes a face as one plain number where its tokens are too rare for the tables, and
            "learned" does so with the frequencies of the model's `learned.safetensors`.

    Raises:
        EdgeError: the target has no such precision, its exporter is not installed, the place is taken, or the artifact
            does not convert, crashes or answers differently from its graph. No bundle is left then.

    Example:
        >>> bundle = export(Codec.load("models/face64"), "onnx", output="bundles")
        >>> bundle.folder
        PosixPath('bundles/onnx-int8')
    """
    from edge_stscq.bundle import open_bundle
    from targets import find
    from targets.captured import capture_model
    from targets.writer import bundle_folder, check_free, write_bundle

    chosen = find(target)
    if len(chosen) != 1:
        raise EdgeError(f"{target!r} is more than one target; export them one by one")
    (row,) = chosen
    row.check_precision(precision)
    row.check_installed()
    folder = bundle_folder(Path(output), row, precision)
    check_free(folder, force)
    write_bundle(capture_model(codec, precision, calibration), row, folder, force=force, coder=coder)
    return open_bundle(folder)


def parity(
    bundles: Sequence[Bundle | Path | str], codec: Codec, crops: Crops | None = None, *,
    thresholds: Thresholds | None = None, calibration: Calibration | None = None, recognizers: Path | None = None,
    steps: Steps = no_steps,
) -> ParityReport:  # fmt: skip
    """Compare artifacts with their quantized graph, with the full-precision student and with each other.

    Args:
        bundles: of the codec's model.
        crops: faces that every artifact codes; the golden pictures of the first bundle if None.
        thresholds: what must be reached; what the recipe in the codec's folder states if None.
        calibration: that the bundles were exported with; that of the codec's folder if None.
        recognizers: folder of the recognizer that measures identity; the student's own embedding does if None.

    Raises:
        EdgeError: a bundle is of another model, or its runtime is missing.

    Example:
        >>> report = parity([bundle], codec, crops)
        >>> report.passed, report.bundles[0].report.device.tokens
        (True, 0.991)
        >>> report.to_html("parity.html")
    """
    require("torch", "train")
    from edge_stscq.evaluation.parity.report import StatedThresholds, compare_bundles

    stated = None if thresholds is None else StatedThresholds(thresholds, "the caller's")
    source = crops if isinstance(crops, Path | str) else "the caller"
    return compare_bundles(
        [_bundle(one) for one in bundles], codec, None if crops is None else _faces(crops), source=str(source),
        thresholds=stated, recognizers=recognizers, calibration=calibration, steps=steps,
    )  # fmt: skip


def evaluate(
    codec: Codec, crops: Path | str, pairs: Pairs | Path | str, *, recognizers: Path | str | None = None,
    names: Collection[str] | None = None, layers: Collection[int] = (), cache: Path | str | None = None,
    appearance: bool = False, device: str = "cpu", steps: Steps = no_steps,
) -> VerificationReport:  # fmt: skip
    """Verify pairs of faces in the compressed domain and after decoding, layer by layer.

    Args:
        codec: as it is loaded, or `with_encoder` of a bundle.
        crops: folder or `.tar` with the aligned crops that the pairs name.
        pairs: LFW's pairs.txt, or pairs that were read.
        recognizers: folder of the recognizers; EDGE_STSCQ_DATA/recognisers if None, and without that decoded faces are
            not verified.
        names: of the recognizers to judge with; all if None.
        layers: decode these numbers of layers; all if empty.
        cache: folder that keeps the recognizers' embeddings of originals.
        appearance: tell how decoded faces look, too.
        device: where recognizers compute.

    Raises:
        EdgeError: a crop, a pair list or a recognizer is missing or damaged.

    Example:
        >>> report = evaluate(Codec.load("models/face64"), "lfw-crops.tar", "pairs.txt")
        >>> report.layers[0].compressed.accuracy
        0.972
    """
    require("torch", "train")
    from edge_stscq.data.masks import load_masked_faces
    from edge_stscq.evaluation.verification.layers import evaluate_layers
    from edge_stscq.recognizers import RECOGNIZERS, load_recognizers, recognizer_folder

    chosen = _pairs(pairs)
    wanted = sorted({codec.config.check_layers(one) for one in layers}) or None
    folder = recognizer_folder(None if recognizers is None else Path(recognizers))
    nets = load_recognizers(folder, list(names or RECOGNIZERS)) if folder else {}
    for net in nets.values():
        net.to(device)
    faces, masks = load_masked_faces(Path(crops), names=chosen.names)
    with steps("faces", len(faces)) as progress:
        return evaluate_layers(
            codec, faces, chosen, nets, progress, wanted, None if cache is None else Path(cache),
            appearance=appearance, masks=masks,
        )  # fmt: skip


def thresholds(
    codec: Codec, crops: Path | str | Sequence[Path | str], *, identities: Path | str | None = None,
    pairs: Path | str | None = None, cohort: Sequence[Path | str] = (), steps: Steps = no_steps,
) -> MatchRule:  # fmt: skip
    """Measure from which score on two faces are one person's, on all pairs of strangers in sets of crops.

    Args:
        codec: as it is loaded, or `with_encoder` of a bundle.
        crops: folder or `.tar` of aligned crops, or several; no training may have seen these people.
        identities: CSV file that begins with `name,identity` and any labels: who is on the crops.
        pairs: LFW's pairs.txt, besides or in its place: the crops that it names, whose names are people.
        cohort: folders or `.tar`s of crops of other people, whose clusters scores are held against; those of the
            model's own cohort if there are none.

    Returns:
        Scores that 1 in 1,000 and 1 in 10,000 stranger pairs pass, by layer; `save` keeps them in a model's folder.

    Raises:
        EdgeError: a file is missing or damaged, or there are too few people.

    Example:
        >>> rule = thresholds(Codec.load("models/face64"), "crops", identities="people.csv")
        >>> rule.thresholds.verdict(0.7, layers=2)
        'same person'
    """
    require("torch", "train")
    from edge_stscq.data.crops import load_faces
    from edge_stscq.evaluation.false_matches import measure_rule

    faces, everyone, sources = _people_on(crops, identities, pairs)
    others = {Path(one).name: load_faces(Path(one)) for one in cohort}
    with steps("faces", len(faces) + sum(map(len, others.values()))) as progress:
        return measure_rule(codec, faces, everyone, sources, others or None, progress)


def template_thresholds(
    codec: Codec, crops: Path | str | Sequence[Path | str], *, identities: Path | str | None = None,
    pairs: Path | str | None = None, steps: Steps = no_steps,
) -> TemplateThresholds:  # fmt: skip
    """Measure from which score on a protected template and a face are one person's; otherwise as `thresholds`.

    Returns:
        Scores that 1 in 1,000 and 1 in 10,000 stranger pairs pass, by scheme; `save` keeps them in a model's folder.

    Example:
        >>> found = template_thresholds(Codec.load("models/face64"), "crops", identities="people.csv")
        >>> found.limits("rotated").verdict(0.7)
        'same person'
    """
    require("torch", "train")
    from edge_stscq.evaluation.false_matches import encode_faces
    from edge_stscq.evaluation.template_matches import measure_templates
    from edge_stscq.privacy import SCHEMES

    faces, everyone, sources = _people_on(crops, identities, pairs)
    with steps("faces", len(faces)) as progress:
        codes = encode_faces(codec, faces, progress)
    with steps("matches", len(faces) * len(SCHEMES)) as progress:
        return measure_templates(codec, faces, everyone, sources, codes, SCHEMES, progress)


def _people_on(
    crops: Path | str | Sequence[Path | str], identities: Path | str | None, pairs: Path | str | None
) -> tuple[Faces, People, list[str]]:
    """Crops of all who are listed, who is on them, and the names of their sets."""
    from edge_stscq.evaluation.false_matches import gather_faces, lfw_people, read_people
    from edge_stscq.evaluation.verification.pairs import read_pair_lines

    people = [] if identities is None else [read_people(Path(identities))]
    if pairs is not None:
        people.append(lfw_people(name for line in read_pair_lines(Path(pairs)) for name in line[:2]))
    if not people:
        raise EdgeError("nothing says who is on the crops; give --identities, or LFW's --pairs")
    sources = [Path(one) for one in ([crops] if isinstance(crops, Path | str) else crops)]
    return *gather_faces(sources, people), [one.name for one in sources]


def rate(
    codec: Codec, crops: Path | str, pairs: Pairs | Path | str, *, peers: Sequence[str] = (),
    recognizers: Path | str | None = None, judge: str | None = None, output: Path | str = "out/rate",
    steps: Steps = no_steps,
) -> RateReport:  # fmt: skip
    """Verification accuracy against bytes: the codec's layers beside JPEG to VVC, and published figures.

    Args:
        crops, pairs: as in `evaluate`.
        peers: names of the other codecs; all if empty.
        recognizers: folder of the recognizers; EDGE_STSCQ_DATA/recognisers if None.
        judge: name of the recognizer that judges; the held-out one if None.
        output: folder for rate.json, rate.png and the points measured so far: an interrupted run goes on.

    Raises:
        EdgeError: there is no recognizer to judge by, or no codec of such a name.

    Example:
        >>> report = rate(Codec.load("models/face64"), "lfw-crops.tar", "pairs.txt", peers=["webp"])
        >>> report.savings[0].bjontegaard
        0.93
    """
    require("torch", "train")
    require("matplotlib", "bench")
    require("scipy", "bench")
    from edge_stscq.data.crops import load_faces
    from edge_stscq.evaluation.rate import baselines
    from edge_stscq.evaluation.rate.measure import measure_rate
    from edge_stscq.recognizers import HELD_OUT, recognizer_folder

    chosen, listed = baselines.find(list(peers)), _pairs(pairs)
    folder = recognizer_folder(None if recognizers is None else Path(recognizers))
    if folder is None:
        raise EdgeError("accuracy needs a judge; give --recognisers or set EDGE_STSCQ_DATA")
    faces = load_faces(Path(crops), names=listed.names)
    return measure_rate(codec, faces, listed, folder, Path(output), chosen, steps, judge or HELD_OUT)


def benchmark(
    bundles: Sequence[Path | str], codec: Codec, crops: Crops | None = None, *, threads: Sequence[int] = (1, 2),
    rounds: int = 60, steps: Steps = no_steps,
) -> EncodeReport:  # fmt: skip
    """Time, memory, size and fallbacks of artifacts beside the student and teacher in torch, WebP and AVIF.

    Args:
        bundles: folders of bundles of the codec's model.
        codec: of a model folder.
        crops: what is coded; the golden pictures of the first bundle that opens if None.
        threads: numbers of threads to measure with.
        rounds: times that each encoder runs with each of them.

    Raises:
        EdgeError: a bundle is of another model, or the codec has no folder.

    Example:
        >>> report = benchmark(["bundles/onnx-int8"], Codec.load("models/face64"), threads=[1])
        >>> report.encoders[0].runs[0].encode.median_ms
        5.7
    """
    require("torch", "train")
    from edge_stscq.evaluation.speed.benchmark import count_steps, measure

    folders, chosen = [Path(one) for one in bundles], tuple(threads)
    pictures = None if crops is None else _faces(crops).images
    with steps("encoders, then rounds", count_steps(folders, chosen, rounds)) as progress:
        return measure(folders, codec, pictures, chosen, rounds, progress)


def _faces(crops: Crops) -> Faces:
    from edge_stscq.codec.model import as_crops
    from edge_stscq.data.crops import Faces, load_faces

    if isinstance(crops, Faces):
        return crops
    if isinstance(crops, Path | str):
        return load_faces(Path(crops))
    images = as_crops(crops)
    return Faces(tuple(f"face {number}" for number in range(len(images))), images)


def _bundle(bundle: Bundle | Path | str) -> Bundle:
    from edge_stscq.bundle import Bundle

    return bundle if isinstance(bundle, Bundle) else Bundle.open(bundle)


def _pairs(pairs: Pairs | Path | str) -> Pairs:
    from edge_stscq.evaluation.verification.pairs import read_pairs

    return read_pairs(Path(pairs)) if isinstance(pairs, Path | str) else pairs


@contextmanager
def _run(
    recipe: Path | str, data: Path | str, output: Path | str, start: Path | str | None, resume: bool, precision: str,
    device: str, threads: int, log_every: int, save_every: int, reporter: Reporter,
) -> Iterator[TrainingRun]:  # fmt: skip
    """A training run on its device; the group of processes ends with the block."""
    torch = require("torch", "train")
    from edge_stscq.config.recipe import Recipe
    from edge_stscq.hub import resolve
    from edge_stscq.training.loop import Intervals
    from edge_stscq.training.options import PrecisionName
    from edge_stscq.training.run import TrainingRun, devices

    if threads:
        torch.set_num_threads(threads)
    plan, out = Recipe.load(Path(recipe)), Path(output)
    with devices(device) as where:
        intervals, cache = Intervals(log=log_every, checkpoint=save_every), out / "embeddings.safetensors"
        begin = None if start is None else resolve(start)
        yield TrainingRun(
            plan, Path(data), out, cache, resume, intervals, where, begin, PrecisionName(precision), reporter
        )

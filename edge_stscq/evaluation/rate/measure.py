"""Measurement of accuracy against bytes, which goes on where an interrupted one stopped."""

from collections.abc import Sequence
from pathlib import Path

from edge_stscq._files import make_folder, write_file
from edge_stscq._progress import Steps, no_steps
from edge_stscq.codec.model import Codec
from edge_stscq.data.crops import Faces
from edge_stscq.errors import MissingExtraError
from edge_stscq.evaluation.rate import baselines
from edge_stscq.evaluation.rate.curves import PointCache, RateReport, baseline_curve, compare
from edge_stscq.evaluation.rate.plot import plot
from edge_stscq.evaluation.verification.layers import evaluate_layers
from edge_stscq.evaluation.verification.pairs import Pairs
from edge_stscq.recognizers import HELD_OUT, load_recognizers


def measure_rate(
    codec: Codec,
    faces: Faces,
    pairs: Pairs,
    recognizers: Path,
    output: Path,
    peers: Sequence[baselines.BaselineCodec],
    steps: Steps = no_steps,
    judge: str = HELD_OUT,
) -> RateReport:
    """Measure a codec's layers beside other codecs on the same pairs, by one recognizer.

    Args:
        faces: crops of every name in `pairs`.
        output: folder of `rate.json`, `rate.png`, and of the points measured so far.
        judge: name of the recognizer.

    Raises:
        EdgeError: the recognizer is missing, or the folder cannot be written.
    """
    net = load_recognizers(recognizers, [judge])[judge]
    make_folder(output)
    points, measured, missing = PointCache(output / "points.jsonl"), [], {}
    for peer in peers:
        with steps(peer.name, len(peer.settings)) as progress:
            try:
                measured.append(baseline_curve(peer, faces, pairs, net, points, progress))
            except MissingExtraError as error:
                missing[peer.name] = str(error)
    with steps("edge-stscq", len(faces)) as progress:
        judged = evaluate_layers(codec, faces, pairs, {judge: net}, progress, cache=output)
    report = compare(judged, judge, measured, missing)
    write_file(output / "rate.json", (report.model_dump_json(indent=2) + "\n").encode())
    write_file(output / "rate.png", plot(report))
    return report

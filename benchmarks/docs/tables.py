"""The tables of the documents, made from the committed results.

    python -m benchmarks.docs.tables [--check]

A table stands between `<!-- table: NAME -->` and `<!-- end of table -->` in a Markdown file; NAME is a function of
this file. The command writes every table anew; with `--check` it writes nothing and fails if one is not what the
results say.
"""

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks.record import RESULTS
from edge_stscq._files import write_file
from edge_stscq.config.codec import CodecConfig
from edge_stscq.errors import EdgeError
from edge_stscq.recognizers import HELD_OUT
from targets import TARGETS

ROOT = Path(__file__).resolve().parent.parent.parent
DOCUMENTS = ("README.md", "models/*/MODEL_CARD.md", "docs/*.md")
ENTROPY = "face64"
"""The model that docs/entropy.md tells of: a learned coder was fitted to it."""
_PLACE = re.compile(r"<!-- table: (?P<name>[\w-]+) -->\n(?P<body>.*?)<!-- end of table -->", re.DOTALL)
_TARGETS = {target.name: target.title for target in TARGETS}
_ENCODERS = {"student": "student fp32, torch", "teacher": "teacher fp32, torch"}

_GATE_EXTRACT = (
    "upright", "turned by 15 degrees", "Gauss 1", "light x 0.5", "turned by 90 degrees", "turned by 180 degrees",
    "lower half in frame", "Gauss 6, noise 8", "light x 0.1", "dark bar over the eyes",
)  # fmt: skip

Row = Sequence[str]
TABLES: dict[str, Callable[[], str]] = {}


def table(make: Callable[[], str]) -> Callable[[], str]:
    """Offer a function's table under its name, with hyphens."""
    TABLES[make.__name__.replace("_", "-")] = make
    return make


def fill(text: str) -> str:
    """`text` with all its tables made anew.

    Raises:
        EdgeError: it asks for a table that there is none of.
    """

    def made(place: re.Match[str]) -> str:
        name = place["name"]
        if name not in TABLES:
            raise EdgeError(f"no table is called {name!r}; there are {', '.join(sorted(TABLES))}")
        return f"<!-- table: {name} -->\n{TABLES[name]()}<!-- end of table -->"

    return _PLACE.sub(made, text)


def documents() -> list[Path]:
    """All files that may hold tables."""
    return [path for pattern in DOCUMENTS for path in sorted(ROOT.glob(pattern))]


@table
def verification() -> str:
    rows = []
    for index, report, layer in _layers():
        rows.append([
            _added(layer["name"], index), f"{layer['payload_bytes']:.1f} bytes", _subject(report),
            _accuracy(layer["compressed"]), _accuracy(layer["decoded"][HELD_OUT]), f"{layer['identity'][HELD_OUT]:.2f}",
        ])  # fmt: skip
    originals = _load("lfw")["results"][0]["originals"][HELD_OUT]
    rows.append(["originals", "49,152 bytes", "", "", _accuracy(originals), "1"])
    head = ["layers", "payload", "encoder", "matched without decoding", "decoded, verified by an unseen recogniser"]
    return _markdown([*head, "cosine to the original"], rows)


@table
def verification_in_full() -> str:
    rows = []
    for _, report, layer in _layers():
        rows.append([
            layer["name"], _subject(report), f"{layer['payload_bytes']:.1f}", _accuracy(layer["compressed"]),
            *(_accuracy(layer["decoded"][judge]) for judge in (HELD_OUT, "sface")),
            *(f"{layer['identity'][judge]:.3f}" for judge in (HELD_OUT, "sface")),
            f"{layer['psnr']:.2f} dB", f"{layer['ms_ssim']:.3f}",
        ])  # fmt: skip
    head = ["layers", "encoder", "payload, bytes", "matched without decoding", f"verified by {HELD_OUT}"]
    head += [
        "by SFace (used in training)",
        f"cosine, {HELD_OUT}",
        "cosine, SFace",
        "PSNR",
        "MS-SSIM",
    ]
    return _markdown(head, rows)


@table
def matching() -> str:
    rows = []
    for index, report, layer in _layers():
        match = layer["compressed"]
        if not index or match != report["layers"][index - 1]["compressed"]:  # some layers add no identity tokens
            rows.append([
                _added(layer["name"], index), _subject(report), _accuracy(match), f"{match['threshold']:.2f}",
                _percent(match["tar_at_far"]),
            ])  # fmt: skip
    head = ["layers", "encoder", "accuracy", "at a cosine of", "same person accepted where 0.1 % of others are"]
    return _markdown(head, rows)


@table
def training() -> str:
    stages = _load("training")["results"]["stages"]
    rows = [
        [
            name, str(each["batch"]), f"{each['images_per_s']:.1f}", f"{each['gflop_per_image']:.1f}",
            _percent(each["share_of_peak"], 0),
            ", ".join(f"{operator} {_percent(share, 0)}" for operator, share in list(each["where"].items())[:4]),
        ]
        for name, each in stages.items()
    ]  # fmt: skip
    return _markdown(["step of", "batch", "images a second", "GFLOP an image", "share of peak", "where it goes"], rows)


@table
def people() -> str:
    """Metrics for people, of every model that was measured."""
    rows, measured = [], [_load(path.stem)["results"] for path in sorted(RESULTS.glob("people-*.json"))]
    if len(counts := {found["faces"] for found in measured}) != 1:
        raise EdgeError("Frechet distances of different numbers of faces do not compare; measure all models on as many")
    for found in measured:
        for layer in found["layers"]:
            rows.append([
                found["model"], str(layer["tokens"]), f"{layer['frechet']:.0f}", f"{layer['perceptual']:.2f}",
                f"{layer['ssimulacra2']:.0f}", f"{layer['total_variation']:.2f}", f"{layer['psnr']:.1f} dB",
            ])  # fmt: skip
    between = f"{measured[0]['frechet_between_halves']:.0f}"
    rows.append(["photographs of others, half as many", "", between, "", "", "", ""])
    head = ["model", "tokens", f"Frechet distance, {counts.pop():,} faces", "perceptual distance", "SSIMULACRA 2"]
    return _markdown([*head, "total variation, originals = 1", "PSNR"], rows)


@table
def savings() -> str:
    found = [row for row in _load("rate")["results"]["savings"] if row["counted"] == "container"]
    layers = list(found[0]["at_layer"])
    rows = [
        [row["peer"], _percent(row["bjontegaard"], 0), *(_percent(row["at_layer"][layer], 0) for layer in layers)]
        for row in found
    ]
    return _markdown(["beside", "mean (Bjontegaard)", *(f"at {layer}" for layer in layers)], rows)


@table
def encode() -> str:
    results = _load("encode")["results"]
    runs = {each["name"]: _one_thread(each) for each in results["encoders"] if each["runs"]}
    rows = []
    for each in results["encoders"]:
        run = runs.get(each["name"])
        if run is None or each["runtime"].startswith("reference executor"):
            continue  # its time says nothing about a device
        target, _, precision = each["name"].partition(" ")
        name = f"{_TARGETS[target]} {precision}" if target in _TARGETS else _ENCODERS.get(each["name"], each["name"])
        size = "-" if each["artefact_bytes"] is None else f"{each['artefact_bytes'] / 1e6:.1f} MB"
        times = [runs[other]["encode"]["median_ms"] / run["encode"]["median_ms"] for other in ("student", "teacher")]
        share = "-" if run["of_peak"] is None else _percent(run["of_peak"], 0)
        rows.append([name, size, f"{run['encode']['median_ms']:.1f} ms", *(f"{time:.1f}" for time in times), share])
    head = ["encoder", "artefact", "median", "speed, fp32 student in torch = 1", "speed, teacher = 1"]
    return _markdown([*head, "share of measured peak"], rows)


@table
def parity() -> str:
    rows = []
    for each in _load("parity")["results"]["bundles"]:
        shares = [each["runtime"]["tokens"], each["quantisation"]["tokens"], each["device"]["tokens"]]
        rows.append([
            f"{_TARGETS[each['target']]} {each['precision']}", each["executor"].partition(" (")[0],
            *map(_percent, (*shares, each["device"]["groups"])),
            f"{each['pictures']['psnr']:.1f} dB", f"{each['pictures']['identity']:.3f}",
        ])  # fmt: skip
    head = ["bundle", "run by", "artefact = its graph", "graph = fp32 student", "artefact = fp32 student", "same group"]
    return _markdown([*head, "decoded faces, PSNR", "cosine"], rows)


@table
def equality() -> str:
    results, rows = _load("equality")["results"], []
    for each in results["places"]:
        share = f"{each['tokens_equal']:,} of {each['tokens']:,}"
        rows.append([
            each["title"] + (" (agreement measured)" if each["measured"] else ""), each["runtime"],
            f"{each['golden']['tokens_equal']} of {each['golden']['tokens']}", f"{each['crops']:,}",
            share, f"`{each['sha256'][:16]}`" + ("" if each["sha256"] == each["expected_sha256"] else " (differs)"),
        ])  # fmt: skip
    head = [f"place, model {results['name']}", "runtime", "golden tokens", "crops", "tokens equal"]
    return _markdown([*head, "SHA-256 of all answers"], rows)


@table
def sealing() -> str:
    results = _load("sealing")["results"]
    clear, sealed = results["clear"], results["sealed"]
    rows = [
        [name, *(form.format(store[key]) for store in (clear, sealed)), f"{sealed[key] / clear[key]:.2f}"]
        for name, key, form in (
            (f"ingest, {results['frames_per_request']} faces a request", "ingest_faces_per_s", "{:,.0f} faces/s"),
            ("a face by its name, as a match begins", "face_ms", "{:.2f} ms"),
            ("restart: read and index", "restart_us_per_face", "{:,.0f} µs a face"),
            ("store on disk", "bytes_per_face", "{:,.0f} bytes a face"),
        )
    ]
    rows += [
        ["key file on disk", "-", f"{results['key_bytes_per_face']:,.0f} bytes a face", ""],
        ["`store seal`", "-", f"{results['seal_faces_per_s']:,.0f} faces/s", ""],
        ["`store rotate`", "-", f"{results['rotate_keys_per_s']:,.0f} keys/s", ""],
    ]
    return _markdown([f"{results['faces']:,} faces", "in the clear", "sealed", "ratio"], rows)


@table
def gate() -> str:
    rows = []
    for each in _load("gate")["results"]["conditions"]:
        refused = ", ".join(f"{count} {reason}" for reason, count in each["refused"].items()) or "-"
        rows.append([
            each["name"], str(each["frames"]), _percent(each["captured"] / each["frames"], 0), refused,
            _matched(each["strangers"]), _matched(each["gate_off"]["strangers"]),
        ])  # fmt: skip
    head = ["condition", "frames", "captured", "refused", "strangers who match, of pairs", "with the gate off"]
    return _markdown(head, rows)


@table
def gate_extract() -> str:
    found = {each["name"]: each for each in _load("gate")["results"]["conditions"]}
    rows = [
        [
            name, _percent(found[name]["captured"] / found[name]["frames"], 0), _matched(found[name]["strangers"]),
            _matched(found[name]["gate_off"]["strangers"]),
        ]
        for name in _GATE_EXTRACT
    ]  # fmt: skip
    return _markdown(["faces that are", "captured", "strangers who match, of pairs", "with the gate off"], rows)


@table
def camera() -> str:
    found = _load("camera")["results"]
    scenes = found["scenes"]
    head = ["ms of the processor, median", *(f"{one['name']}, {one['width']} x {one['height']}" for one in scenes)]
    stages = list(dict.fromkeys(stage for one in scenes for stage in one["stages"]))
    rows = [
        [stage, *("-" if stage not in one["stages"] else f"{one['stages'][stage]['median_ms']:.1f}" for one in scenes)]
        for stage in stages
    ]
    rows.append(["pictures a second", *(f"**{one['frames_per_second']:.0f}**" for one in scenes)])
    memory = found["memory"]["resident_mib"]
    grown = f"Memory over {found['memory']['frames']:,} pictures: {memory[1]:.0f}, then {memory[-1]:.0f} MiB.\n"
    return f"{_markdown(head, rows)}\n{grown}"


@table
def damaged_files() -> str:
    found = _load("damaged_files")["results"]
    names = ("whole", "repaired", "counted", "caught", "silent")
    kinds = ("stores", "spools")
    rows = [[f"{found['count']:,} {kind}", *(f"{found[kind][name]:,}" for name in names)] for kind in kinds]
    return _markdown(["damaged at random", *names], rows)


@table
def flood() -> str:
    rows = [
        [
            name.replace("_", " "),
            f"{each.get('memory_beyond_ingest_mib', each['memory_growth_mib']):+.0f} MiB",
            f"{each['health_seconds']:.2f} s",
            f"{each['ingest_share']:.2f}" if "ingest_share" in each else "-",
        ]
        for name, each in _load("flood")["results"]["floods"].items()
    ]
    head = ["flood", "memory of the server, beyond the camera's faces", "slowest /health"]
    return _markdown([*head, "ingest beside it, of its rate alone"], rows)


@table
def gate_covered() -> str:
    rows = []
    for each in _load("gate")["results"]["conditions"]:
        if (rest := each["uncovered"])["captured"] < each["captured"]:
            found = (each, rest)
            shares = [_percent(one["captured"] / each["frames"], 0) for one in found]
            rows.append([each["name"], *shares, *(_matched(one["strangers"]) for one in found)])
    head = ["condition", "captured", "with `refuse_covered`", "strangers who match, of pairs", "with `refuse_covered`"]
    return _markdown(head, rows)


@table
def gate_shortfalls() -> str:
    return "".join(f"- {line}\n" for line in _load("gate")["results"]["shortfalls"]) or "None.\n"


@table
def groups() -> str:
    results = _load("groups")["results"]
    layers, rows = list(results["all"]["identity"]), []
    for each in ({"label": "all", "value": "", **results["all"]}, *results["groups"]):
        figures = [f"{each['identity'][layer]:.3f} ± {each['standard_error'][layer]:.3f}" for layer in layers]
        rows.append([each["label"], each["value"], f"{each['faces']:,}", *figures])
    return _markdown(["label", "value", "faces", *(_added(name, index) for index, name in enumerate(layers))], rows)


@table
def thresholds() -> str:
    """Scores of each layer that brings identity tokens, against one face and against a visit's average."""
    rows = []
    for index, layer in _measured("with_cohort"):
        for against, limits in (("one face", layer["pair"]), ("a visit's average", layer["track"])):
            loose, strict = limits["perhaps"], limits["same_person"]
            cells = [f"{loose['score']:.3f}", _percent(loose["same_accepted"]["rate"])]
            cells += [f"{strict['score']:.3f}", _percent(strict["same_accepted"]["rate"])]
            rows.append([_added(layer["name"], index), against, *cells])
    head = ["layers", "compared with", "perhaps, 1 in 1,000", "accepts of one person"]
    return _markdown([*head, "same person, 1 in 10,000", "accepts of one person"], rows)


@table
def false_matches() -> str:
    """False matches by label at the thresholds of all, and those that cosines alone would have at theirs."""
    rows, layers = [], _measured("with_cohort")
    plain = [layer for _, layer in _measured("cosines_alone")]
    order = sorted(enumerate(layers[0][1]["labels"]), key=lambda one: (one[1]["label"], _leading(one[1]["value"])))
    for number, first in order:
        row = [first["label"], first["value"], f"{first['people']:,}"]
        for (_, layer), alone in zip(layers, plain, strict=True):
            found = layer["labels"][number]
            row += [_interval(found["perhaps"]), _interval(found["same_person"])]
            row.append(_percent(alone["labels"][number]["perhaps"]["rate"], 2))
        rows.append(row)
    head = ["label", "value", "people"]
    for index, layer in layers:
        name = _added(layer["name"], index)
        head += [f"{name}: at 1 in 1,000", "at 1 in 10,000", "cosine alone, at its 1 in 1,000"]
    return _markdown(head, rows)


def _measured(which: str) -> list[tuple[int, dict[str, Any]]]:
    """Rows of the layers that bring identity tokens, with their place; others judge by those before them."""
    rows = list(enumerate(_load("false-matches")["results"][which]["layers"]))
    return [(index, row) for index, row in rows if not index or row["pair"] != rows[index - 1][1]["pair"]]


def _leading(value: str) -> int:
    """Number that a label begins with, 0 without one: ages in their order."""
    return int(found.group()) if (found := re.match(r"\d+", value)) else 0


def _interval(rate: Mapping[str, float]) -> str:
    return f"{100 * rate['rate']:.3f} % ({100 * rate['low']:.3f} to {100 * rate['high']:.3f})"


@table
def scale_up() -> str:
    results = _load("scale-up")["results"]
    rows = [
        [what, f"{each['median']:.0f} ms", f"{each['p95']:.0f} ms"] for what, each in results["milliseconds"].items()
    ]
    rows.append(["restart until ready", f"{results['restart']['ready_s']:.1f} s", ""])
    rows.append(["restart until every face is found", f"{results['restart']['all_faces_found_s']:.0f} s", ""])
    rows.append(["memory of the server", f"{results['server_mib']:,} MiB", ""])
    return _markdown([f"{results['faces']:,} faces", "median", "95th percentile"], rows)


@table
def scale_up_pgvector() -> str:
    results = _load("scale-up-pgvector")["results"]
    by = [results["by"][name] for name in ("pgvector", "memory")]
    rows = [
        [what, *(f"{each['milliseconds'][what]['median']:.0f} ms" for each in by)] for what in by[0]["milliseconds"]
    ]
    rows.append(["restart until ready", *(f"{each['restart']['ready_s']:.1f} s" for each in by)])
    found = (f"{each['restart']['all_faces_found_s']:.0f} s" for each in by)
    rows.append(["restart until every face is found", *found])
    rows.append(["memory of the server", *(f"{each['server_mib']:,} MiB" for each in by)])
    rows.append(["index from nothing", f"{results['first_index_s']:.0f} s", ""])
    return _markdown([f"{results['faces']:,} faces, median", "pgvector", "in memory"], rows)


@table
def ablation() -> str:
    found, rows = _load("ablation")["results"], []
    for each in found:
        layers = each["report"]["layers"]
        first, last = layers[0], layers[-1]
        rows.append([
            each["meaning"], " / ".join(f"{layer['payload_bytes']:.1f}" for layer in layers),
            " / ".join("-" if (one := layer["compressed"]) is None else _share(one) for layer in layers),
            " / ".join(_share(layer["decoded"][HELD_OUT]) for layer in layers),
            " / ".join(f"{layer['identity'][HELD_OUT]:.3f}" for layer in (first, last)),
            " / ".join(f"{layer['psnr']:.2f}" for layer in (first, last)) + " dB",
        ])  # fmt: skip
    head = ["variant", "payload, bytes", "matched without decoding", f"decoded, verified by {HELD_OUT}"]
    first, last = (found[0]["report"]["layers"][at]["name"] for at in (0, -1))
    head += [f"cosine, {HELD_OUT}, {first} / {last}", f"PSNR, {first} / {last}"]
    return _markdown(head, rows)


@table
def server() -> str:
    kills, malformed, decode, overload = (
        _load(name)["results"] for name in ("kills", "malformed", "decode_http", "overload")
    )
    answered = sum(overload["answers"].get(status, 0) for status in ("200", "503"))
    rows = [
        [
            f"{kills['kills']:,} times `kill -9` of producer, sender and server, over {kills['faces']:,} faces",
            f"{kills['lost']} lost, {kills['stored_twice']} stored twice, {kills['corrupt']} corrupt",
        ],
        [
            f"{malformed['done']:,} malformed frames and requests; every single-bit flip of "
            f"{malformed['flipped_frames']:,} frames",
            f"nothing raised but refusals; {malformed['kinds']['flips']['accepted']} flips accepted",
        ],
        *(
            [
                f"requests a second, each of {_count(int(size), 'frame')}, beside a server that stores an opaque blob "
                f"({store})",
                f"{found['ratio']:.2f}; {found['frames_per_second']:,.0f} frames a second",
            ]
            for store, sizes in _load("ingest")["results"]["stores"].items()
            for size, found in sizes.items()
        ),
        [
            "faces decoded a second through HTTP, beside the decoder called directly in its best batch",
            f"{decode['rate_beside_best_direct']['http_first']:.2f}; from the cache "
            f"{decode['rate_beside_best_direct']['http_cached']:.1f}",
        ],
        [
            f"{overload['times']:g} times the capacity for {overload['seconds']} s, deadline "
            f"{overload['deadline_seconds']:g} s",
            f"{_percent(answered / overload['offered'], 0)} of the requests answered; 99 % of the accepted in "
            f"{overload['accepted_seconds']['p99']:.1f} s (deadline and one batch: "
            f"{overload['limit_seconds']:.1f} s); {overload['refused_without_retry_after']} refused without being told "
            f"when to come again; {overload['resident_mib']['most_in_first_half']:.0f}, then "
            f"{overload['resident_mib']['most_in_second_half']:.0f} MiB of memory",
        ],
    ]
    return _markdown(["tried", "found"], rows)


@table
def memory() -> str:
    found = _load("memory")["results"]
    read, serve = found["resident_mib"], found["serve"]
    rows = [
        ["the application, decoders elsewhere", f"{read['catalog']['median']:.0f} MiB"],
        [
            "the application, decoders in it, each batch size run once",
            f"{read['catalog_and_decoders']['median']:.0f} MiB",
        ],
        ["`serve`: the server's process", f"{serve['server_mib']:.0f} MiB"],
        ["`serve`: the decoder's process", f"{serve['decoder_process_mib']:.0f} MiB"],
    ]
    return _markdown([f"resident with {found['model']}", "memory"], rows)


@table
def results() -> str:
    rows = []
    for path in sorted(RESULTS.glob("*.json")):
        found = _load(path.stem)
        machine = found["machine"]
        where = f"{machine['processor']}, {_count(machine['cores'], 'core')}, {machine['memory_gib']} GiB"
        link = f"[`{path.name}`](benchmarks/results/{path.name})"
        rows.append([link, found["date"][:10], where, f"`{found['command']}`"])
    return _markdown(["figures", "date", "machine", "command"], rows)


@table
def film() -> str:
    rows = []
    for run in _load("film")["results"]["runs"]:
        counters = run["counters"]
        rows.append([
            str(run["every"]), f"{counters['searched']:,}", f"{counters['found']:,}", str(counters["tracks"]),
            f"{run['faces_sent']} of {run['people_recognized']} people", f"{run['wire_bytes']:,}",
        ])  # fmt: skip
    first = _load("film")["results"]["runs"][0]
    head = [
        "`--every`", f"searched of {round(first['seconds'] * first['rate']):,} pictures", "faces found",
        f"visits, of {first['visits']}", f"faces sent, of {first['people']} people", "bytes of their frames",
    ]  # fmt: skip
    return _markdown(head, rows)


@table
def visits() -> str:
    found = _load("visits")
    rows = []
    for name, each in (("filmed", found["results"]["films"]), ("crops alone", found["results"]["others"])):
        pairs = each["pairs"]
        rows.append([
            f"{each['people']} people, {each['visits']:,} visits, {name}",
            f"{each['visits_seen']:,} of {each['visits']:,}", str(each["persons"]), str(each["wrong_merges"]),
            str(each["wrong_splits"]), _percent(pairs["precision"]), _percent(pairs["recall"]),
        ])  # fmt: skip
    head = ["who came", "visits seen", "persons", "wrong merges", "wrong splits"]
    return _markdown([*head, "joined pairs that are right", "right pairs that are joined"], rows)


@table
def privacy() -> str:
    found = _load("privacy")["results"]
    basic = [_accuracy(found["basic"]), _percent(found["basic"]["tar_at_far"])]
    rows = [["unprotected, of the basic layer alone", "-", *basic, *basic, "-"]]
    for name, subject in found["subjects"].items():
        own, stolen, search = subject["accuracy"]["own"], subject["accuracy"]["stolen"], subject["search"]
        rows.append([
            name, str(subject["accuracy"]["template_bytes"]), _accuracy(own), _percent(own["tar_at_far"]),
            _accuracy(stolen), _percent(stolen["tar_at_far"]),
            f"{search['milliseconds']:.0f} ms, {search['mebibytes']:.0f} MiB",
        ])  # fmt: skip
    head = ["scheme", "template, bytes", "own secret", "same person accepted where 0.1 % of others are"]
    return _markdown([*head, "stolen secret", "the same, stolen", "1 against 100,000"], rows)


@table
def privacy_matcher() -> str:
    found = _load("matcher")["results"]
    rows = [
        [
            what, f"{found[kind]['median_ms']:.1f} ms", f"{found[kind]['p95_ms']:.1f} ms",
            f"{found[kind]['processor_ms']:.1f} ms",
        ]
        for what, kind in ((f"1 against {found['records']:,}", "search"), ("1 against 1", "one_to_one"))
    ]  # fmt: skip
    ready, memory = f"{found['ready_seconds']:.0f} s", f"{found['resident_mib']:.0f} MiB"
    head = ["through the process", "median", "95 of 100 within", "processor", "from start to ready", "memory"]
    return _markdown(head, [[*row, *((ready, memory) if not at else ("", ""))] for at, row in enumerate(rows)])


@table
def privacy_attacks() -> str:
    rows = []
    found = _load("privacy")["results"]
    for name, subject in found["subjects"].items():
        by = max(subject["linkage"], key=lambda attacker: float(subject["linkage"][attacker]["d_sys"]))
        linked = subject["linkage"][by]
        inverted = [
            f"{_percent(each['other_picture'])} (chance {_percent(each['chance'])})"
            for kind in ("without_key", "with_key")
            for each in (subject["inversion"][kind][0], subject["inversion"][kind][-1])
        ]
        searched = subject["brute_force"]
        rows.append([
            name, f"{linked['d_sys']:.3f} by {by} (floor {linked['floor']:.3f})",
            f"{linked['maximal_linkability']:.3f}", *inverted,
            f"{_percent(searched['tokens_read'], 0)}, cosine {searched['cosine']:.2f}",
        ])  # fmt: skip
    head = ["scheme", f"D_sys of the best attacker ({found['linked']} faces)", "maximal linkability"]
    head += [
        f"inverted {key}, {count} ({found['attacked']} people)"
        for key in ("without the key", "with it")
        for count in ("1 template", "10")
    ]
    searched = next(iter(found["subjects"].values()))["brute_force"]
    head += [f"tokens of the basic layer read, with the key ({_count(searched['faces'], 'face')})"]
    return _markdown(head, rows)


@table
def privacy_pictures() -> str:
    results = _load("privacy")["results"]
    found = results["pictures"]

    def cells(told: Any) -> list[str]:
        return [f"{_percent(told['person'])} (chance {_percent(told['chance'])})"]

    rows = [
        ["another photograph", *2 * cells(found["photographs"])],
        ["drawn from the embedding itself", *2 * cells(found["drawn_of_the_embedding"])],
        *(
            [name, *(cell for kind in ("without_key", "with_key") for cell in cells(subject["pictures"][kind]))]
            for name, subject in results["subjects"].items()
        ),
    ]
    head = [f"drawn from one template of each of {found['people']} people", "without the key", "with it"]
    return _markdown(head, rows)


@table
def privacy_linkage() -> str:
    subjects = _load("privacy")["results"]["subjects"]
    attackers = list(next(iter(subjects.values()))["linkage"])
    pools = [each["keys"] for each in next(iter(subjects.values()))["key_reuse"]]
    rows = [
        [
            name, *(f"{subject['linkage'][attacker]['d_sys']:.3f}" for attacker in attackers),
            *(_percent(each["linked"]) for each in subject["key_reuse"]),
        ]
        for name, subject in subjects.items()
    ]  # fmt: skip
    reuse = [f"found, {_count(size, 'key')} for all" if size else "found, fresh keys" for size in pools]
    return _markdown(["scheme", *(f"D_sys by {attacker}" for attacker in attackers), *reuse], rows)


@table
def privacy_steps() -> str:
    rows = [
        [each["step"], *(f"{each[by]:.3f}" for by in ("score", "norms", "zeros")), _percent(each["accuracy"])]
        for each in _load("privacy")["results"]["ablation"]["steps"]
    ]
    head = ["step", *(f"D_sys by {attacker}" for attacker in ("score", "norms", "zeros"))]
    return _markdown([*head, "accuracy, stolen secret"], rows)


@table
def privacy_sizes() -> str:
    rows = [
        [each["scheme"], str(each["template_bytes"]), _percent(each["accuracy"]), f"{each['d_prime']:.2f}"]
        for each in _load("privacy")["results"]["ablation"]["sizes"]
    ]
    return _markdown(["tried", "template, bytes", "accuracy, stolen secret", "d'"], rows)


@table
def privacy_group() -> str:
    told = _load("privacy")["results"]["codebook_group"]
    return _markdown(["the group tells of", "bits"], [[label, f"{bits:.3f}"] for label, bits in told.items()])


@table
def privacy_attention() -> str:
    rows = [
        [each["attention"], _percent(each["accuracy"]), f"{each['d_prime']:.2f}"]
        for each in _load("privacy")["results"]["ablation"]["attention"]
    ]
    return _markdown(["weights of the groups", "accuracy, unprotected", "d'"], rows)


def _load(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_bytes())
    return found


def _layers() -> Iterable[tuple[int, Mapping[str, Any], Mapping[str, Any]]]:
    """Number of a layer, from 0 on, report and layer, for all of lfw.json; layers are outermost."""
    reports = _load("lfw")["results"]
    for index in range(len(reports[0]["layers"])):
        for report in reports:
            yield index, report, report["layers"][index]


def _added(name: str, index: int) -> str:
    """A layer as what it adds to the ones before: "basic", "+ middle"."""
    return f"+ {name}" if index else name


def _subject(report: Mapping[str, Any]) -> str:
    if report["subject"] == "student":
        return "student, fp32"
    target, precision = str(report["subject"]).split()[:2]
    return f"{_TARGETS[target]} {precision}"


def _one_thread(encoder: Mapping[str, Any]) -> Mapping[str, Any]:
    return next(run for run in encoder["runs"] if run["threads"] == 1)


def _accuracy(verified: Mapping[str, float]) -> str:
    return f"{100 * verified['accuracy']:.1f} ± {100 * verified['standard_error']:.1f} %"


def _matched(strangers: Mapping[str, int]) -> str:
    if not strangers["pairs"]:
        return "-"
    return f"{_percent(strangers['matched'] / strangers['pairs'])} of {strangers['pairs']:,}"


def _share(verified: Mapping[str, float]) -> str:
    return f"{100 * verified['accuracy']:.1f} %"


def _percent(share: float | None, digits: int = 1) -> str:
    return "-" if share is None else f"{100 * share:.{digits}f} %"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


@table
def entropy() -> str:
    found = _load(f"entropy-{ENTROPY}")["results"]
    models, layers = found["models"], CodecConfig.load(ROOT / "models" / found["model"] / "config.json").layer_names
    before = sum(models[0]["bits_by_layer"])
    rows = [
        [
            one["model"], f"{one['parameters']:,}", *(f"{bits:.1f}" for bits in one["bits_by_layer"]),
            *(f"{size:.2f}" for size in one["bytes_by_prefix"]),
            f"{100 * (1 - sum(one['bits_by_layer']) / before):.1f} %",
        ]
        for one in models
    ]  # fmt: skip
    bits, sizes = list(layers), [str(number) for number in range(1, len(layers) + 1)]
    bits[0], sizes[0] = f"{bits[0]}, bits", "1 layer, bytes"
    return _markdown(["model", "numbers", *bits, *sizes, "bits saved"], rows)


@table
def entropy_coders() -> str:
    rows = [
        [
            one["coder"], f"{one['bytes']:.2f}",
            *(f"{one[name]:.3f}" for name in ("read_many_ms", "read_one_ms", "write_one_ms", "write_one_p90_ms")),
        ]
        for one in _load(f"entropy-coder-{ENTROPY}")["results"]["coders"]
    ]  # fmt: skip
    return _markdown(["coder", "bytes", "read of 256, ms", "read alone", "written", "written, 90 %"], rows)


def _markdown(head: Row, rows: Iterable[Row]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def main(
    check: Annotated[bool, typer.Option("--check", help="Write nothing; fail if a table is stale.")] = False,
) -> None:
    """Make the tables of all documents anew."""
    stale = []
    for path in documents():
        before = path.read_text()
        if (after := fill(before)) != before:
            stale.append(str(path.relative_to(ROOT)))
            if not check:
                write_file(path, after.encode())
    if check and stale:
        typer.echo(f"stale tables in {', '.join(stale)}; run: python -m benchmarks.docs.tables", err=True)
        raise typer.Exit(1)
    typer.echo("\n".join(stale) if stale else "all tables are what the results say")


if __name__ == "__main__":
    typer.run(main)

"""Tokens are the same to the bit at every place that this machine has, and a difference is found and located."""

import json
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from benchmarks import record
from benchmarks.docs import tables
from benchmarks.equality import __main__ as command
from benchmarks.equality import answers, crops
from benchmarks.equality.drive import folder_of, run, started
from benchmarks.equality.places import PLACES, Setting, find, haswell, native, reference
from benchmarks.equality.places.base import Command, Place
from benchmarks.equality.results import collate, differing
from benchmarks.equality.worker import load_model
from edge_stscq.errors import EdgeError
from tests.support.installed import need_program

COUNT = 20
CACHE = Path(__file__).resolve().parents[2] / ".cache"


def silent(text: str) -> None:
    """Progress nobody sees."""


@pytest.fixture(scope="module")
def bundles(integer_bundles: dict[str, Path]) -> Path:
    """Folder of the int8 bundles of a model whose student is made for integers."""
    return integer_bundles["onnx"].parent


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("equality")
    crops.make(folder / "crops", COUNT, [])
    return folder


def places_here() -> list[str]:
    """Places that need no emulated system: `make arm` sets that up and tries it."""
    need_program("npm", "apt-get install npm")
    need_program("chromedriver", "apt-get install chromium chromium-driver")
    need_program(haswell.EMULATOR, "apt-get install qemu-user-static")
    own = [place.name for place in (*reference.PLACES, *native.PLACES) if not place.measured]
    return [*own, "onnx-haswell", "node-1", "node-2", "chromium-1", "chromium-2"]


@pytest.mark.slow
def test_all_places_here_give_the_same_tokens(bundles: Path, integer_model: Path, work: Path) -> None:
    setting, shards = Setting(bundles, integer_model, CACHE), crops.shards(work / "crops")
    names = places_here()
    for place in find(names):
        assert run(place, setting, shards, work, until=time.monotonic() + 600, progress=silent)
    results = collate(setting, shards, work)
    found = {row["place"]: (row["tokens_equal"], row["sha256"] == row["expected_sha256"]) for row in results["places"]}
    tokens = COUNT * setting.bundle("onnx").config.tokens
    assert results["reference"] == "numpy"
    assert found == {name: (tokens, True) for name in names}
    assert differing(results) == []


def test_commands_make_crops_answer_them_and_print_the_table(
    bundles: Path, integer_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (command, record, tables):
        monkeypatch.setattr(module, "RESULTS", tmp_path / "results")

    def call(*words: object) -> str:
        done = CliRunner().invoke(command.app, [*map(str, words), *([] if "report" in words else ["--work", tmp_path])])
        assert done.exit_code == 0, done.output
        return done.stdout

    assert json.loads(call("crops", "--count", 2))["drawn"] == 2
    call("run", "--place", "numpy", "--bundles", bundles, "--model", integer_model)
    assert "| Whole numbers in numpy, the reference executor | numpy " in call("report")
    assert json.loads((tmp_path / "results" / "equality.json").read_bytes())["results"]["reference"] == "numpy"


def test_here_has_the_reference_executor_of_a_student_made_for_integers() -> None:
    assert [place.name for place in find(["here"], exact=True)] == ["numpy", *(each.name for each in native.PLACES)]
    assert find(["here"]) == list(native.PLACES)


def test_reference_executor_refuses_a_student_in_float(tiny_model: Path) -> None:
    with pytest.raises(EdgeError, match="was not made for integers"):
        load_model(tiny_model)


def test_reference_executor_asks_for_the_model(bundle_setting: Setting) -> None:
    (numpy,) = find(["numpy"])
    with pytest.raises(EdgeError, match="--model FOLDER"), started(numpy, bundle_setting):
        pass


@pytest.fixture
def bundle_setting(bundles: Path, tmp_path: Path) -> Setting:
    """Bundles, and a cache in which nothing was set up."""
    return Setting(bundles, cache=tmp_path / "cache")


# A worker that needs nothing: the group is the first byte of a crop, and the tokens are the next bytes.
SCRIPT = """
import os, sys
changed = int(sys.argv[1])
print("a library's chatter")
print('@ {"runtime": "script"}', flush=True)
for line in sys.stdin:
    shard, answers = line.rstrip().split("\\t")
    data = open(shard, "rb").read()
    rows = [data[i:i + 1 + int(sys.argv[2])] for i in range(0, len(data), 128 * 128 * 3)]
    values = [value for row in rows for value in row]
    if "001" in shard and changed:
        values[changed] += 1
    if "002" in shard and changed < 0:
        sys.exit("error: out of order")
    open(answers, "wb").write(b"".join(value.to_bytes(4, "little") for value in values))
    print("@ done", flush=True)
"""


@pytest.fixture
def small(tmp_path: Path, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Setting, list[crops.Shard]]:
    """Three shards, two of four crops; of the bundle, only golden vectors and hashes matter here."""
    monkeypatch.setattr(crops, "SHARD", 4)
    crops.make(tmp_path / "crops", 10, [])
    (tmp_path / "bundles").mkdir()
    (tmp_path / "bundles" / "onnx-int8").symlink_to(tiny_bundle)
    return Setting(tmp_path / "bundles"), crops.shards(tmp_path / "crops")


def scripted(setting: Setting, changed: int) -> Place:
    """A place whose worker is the script; it changes one number of the second shard, or gives up at the third."""
    words = [sys.executable, "-c", SCRIPT, str(changed), str(setting.bundle("onnx").config.tokens)]
    name = list(PLACES)[changed % 2 if changed >= 0 else 2]
    return Place(name, "script", "onnx", lambda _: Command(words, {}))


def test_a_difference_is_located(small: tuple[Setting, list[crops.Shard]], tmp_path: Path) -> None:
    setting, shards = small
    tokens = setting.bundle("onnx").config.tokens
    for changed in (0, 1 + 2 * (1 + tokens)):  # a token of the third crop of the second shard
        run(scripted(setting, changed), setting, shards, tmp_path, until=time.monotonic() + 60, progress=silent)
    first, second = collate(setting, shards, tmp_path)["places"]
    assert (first["tokens_equal"], first["differing_shards"]) == (10 * tokens, [])
    assert (second["tokens_equal"], second["groups_equal"], second["crops"]) == (10 * tokens - 1, 10, 10)
    assert (second["differing_shards"], second["first_differing_crop"]) == ([1], 6)
    assert second["sha256"] != second["expected_sha256"] == first["sha256"]


def test_what_was_answered_is_kept_and_not_asked_again(
    small: tuple[Setting, list[crops.Shard]], tmp_path: Path
) -> None:
    setting, shards = small
    broken = scripted(setting, -1)
    with pytest.raises(EdgeError, match="exit code 1: out of order"):
        run(broken, setting, shards, tmp_path, until=time.monotonic() + 60, progress=silent)
    folder, said = folder_of(broken, setting, tmp_path), list[str]()
    kept = (folder / "000.i32").stat().st_mtime_ns
    assert not (folder / "002.i32").exists()
    mended = Place(broken.name, broken.title, "onnx", scripted(setting, 0).worker)
    assert not run(mended, setting, shards, tmp_path, until=0, progress=said.append)
    assert run(mended, setting, shards, tmp_path, until=time.monotonic() + 60, progress=said.append)
    assert (len(said), (folder / "000.i32").stat().st_mtime_ns) == (1, kept)


def test_crops_that_were_altered_are_refused(small: tuple[Setting, list[crops.Shard]], tmp_path: Path) -> None:
    setting, shards = small
    shards[0].path.write_bytes(bytes(4 * 128 * 128 * 3))
    with pytest.raises(EdgeError, match=r"000\.u8 was altered; make it again"):
        run(scripted(setting, 0), setting, shards, tmp_path, until=time.monotonic() + 60, progress=silent)


def test_a_longer_set_of_crops_begins_with_a_shorter_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crops, "SHARD", 4)
    short, long = crops.make(tmp_path / "a", 4, []), crops.make(tmp_path / "b", 10, [])
    assert long["shards"][:1] == short["shards"]
    assert [shard.count for shard in crops.shards(tmp_path / "b", 5)] == [4, 4]
    with pytest.raises(EdgeError, match="holds 10 crops, not 11"):
        crops.shards(tmp_path / "b", 11)


def test_real_crops_come_with_their_mirror_image_and_a_drawn_one(tmp_path: Path, shared_data: Path) -> None:
    archive = shared_data / "faces" / "synthetic-portraits.tar"
    assert json.dumps(crops.make(tmp_path, 7, [archive])).startswith(
        '{"count": 7, "real": 3, "mirrored": 2, "drawn": 2'
    )
    pictures = np.fromfile(tmp_path / "000.u8", np.uint8).reshape(-1, 128, 128, 3)
    assert np.array_equal(pictures[0], pictures[1][:, ::-1])


def test_answers_have_one_form() -> None:
    groups, tokens = np.array([1, 0]), np.array([[258, 0], [3, 4]], np.uint16)
    data = answers.pack(groups, tokens)
    assert data[:8] == bytes([1, 0, 0, 0, 2, 1, 0, 0])
    assert answers.unpack(data, 2).tolist() == [[1, 258, 0], [0, 3, 4]]
    assert answers.digest([answers.unpack(data, 2)]) == answers.digest([row[None] for row in answers.unpack(data, 2)])


def test_a_token_of_another_group_is_not_equal() -> None:
    ours, theirs = np.array([[0, 7, 8]], np.int32), np.array([[1, 7, 8]], np.int32)
    compared = answers.compare([ours], [theirs])
    assert (compared.groups_equal, compared.tokens_equal, compared.tokens) == (0, 0, 2)
    with pytest.raises(EdgeError, match="did not answer the same crops"):
        answers.compare([ours], [])


def test_an_unknown_place_is_named() -> None:
    with pytest.raises(EdgeError, match="no place is called 'chromium'; did you mean chromium-[12]"):
        find(["chromium"])
    assert [place.name for place in find(["*-cortex-a72"])] == ["onnx-cortex-a72", "executorch-cortex-a72"]


@pytest.mark.parametrize(("words", "best"), [("flags : sse avx avx2", "avx2"), ("x avx512_vnni avx2", "avx512_vnni")])
def test_a_processor_is_named_by_its_integer_arithmetic(tmp_path: Path, words: str, best: str) -> None:
    (tmp_path / "cpuinfo").write_text(words)
    assert native.feature(tmp_path / "cpuinfo") == best


def test_missing_emulator_is_said_before_anything_starts(bundle_setting: Setting, tmp_path: Path) -> None:
    """An emulator that is not set up is said before anything starts."""
    for place in find(["onnx-cortex-a72", "executorch-neoverse-n1"]):
        with pytest.raises(EdgeError, match="run: make arm"), started(place, bundle_setting):
            pass
    assert not list(tmp_path.iterdir())

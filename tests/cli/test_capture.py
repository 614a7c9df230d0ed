"""`edge-stscq capture` from picture files to a stream file and a server, with a real bundle of a made-up encoder."""

import contextlib
import json
import os
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import typer
from click.testing import Result
from typer.testing import CliRunner

from demo_camera import keeper
from edge_stscq._files import NewFile
from edge_stscq._images import read_image
from edge_stscq.bundle import open_bundle
from edge_stscq.bundle.manifest import CropSpec
from edge_stscq.cli.capture import capture
from edge_stscq.client.spool import Spool
from edge_stscq.device import Matcher, load_encoder
from edge_stscq.errors import EdgeError, FrameError
from edge_stscq.privacy import KeyStore, read_secret, scheme_named, write_new_secret
from edge_stscq.stream import read_protected
from edge_stscq.stream.arithmetic import Decoder, Encoder
from edge_stscq.stream.wire import read_frames, section_header, write_stream
from tests.support.bundles.sums_bundle import answer, write_sums_bundle
from tests.support.fakes import stream_acknowledgement

app = typer.Typer()
app.command()(capture)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return write_sums_bundle(tmp_path / "bundle")


@pytest.fixture
def folder(tmp_path: Path, portrait: dict[str, Path]) -> Path:
    """Both portraits and a picture without a face between them."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name, path in portrait.items():
        (folder / f"{name}{path.suffix}").write_bytes(path.read_bytes())
    cv2.imwrite(str(folder / "b_wall.png"), np.full((200, 300, 3), 120, np.uint8))
    return folder


def section_of(path: Path) -> bytes:
    """Header of the only section of a file."""
    (section,) = {id(section): section for section, _ in read_frames(path.read_bytes())}.values()
    return section_header(section)


def test_pictures_become_a_stream_file_and_crops(folder: Path, bundle: Path, tmp_path: Path) -> None:
    output, crops = tmp_path / "faces.stsq", tmp_path / "crops"
    done = run("--source", folder, "--bundle", bundle, "-o", output, "--save-crops", crops, "--json")
    assert done.exit_code == 0, done.exception
    report = json.loads(done.stdout)
    assert (report["pictures"], report["faces"], report["refused"]) == (3, 2, {"no face": 1})
    opened = open_bundle(bundle)
    assert report["model_id"] == opened.manifest.model_id
    faces = list(opened.frames.read(output.read_bytes()))
    assert report["payload_bytes"] == sum(len(opened.frames.payload(face)) for face in faces)
    header = len(write_stream([], bytes(16))) + len(section_of(output))
    assert output.stat().st_size - header <= report["wire_bytes"] <= output.stat().st_size - header + 2 * 4
    assert sorted(path.name for path in crops.iterdir()) == ["000000.png", "000001.png"]
    for number, face in enumerate(faces):
        group, tokens = answer(read_image(crops / f"{number:06d}.png"))
        assert (face.group, face.tokens.tolist()) == (group, tokens)


def test_a_table_is_shown_without_json(folder: Path, bundle: Path, tmp_path: Path) -> None:
    done = run("--source", folder, "--bundle", bundle, "-o", tmp_path / "faces.stsq")
    assert done.exit_code == 0, done.exception
    for words in ("pictures", "refused", "1 no face", "a face", "faces.stsq: look at it with"):
        assert words in done.stdout


@pytest.mark.parametrize("layers", [1, 2])
def test_limit_and_layers(layers: int, folder: Path, bundle: Path, tmp_path: Path) -> None:
    output = tmp_path / "faces.stsq"
    done = run("--source", folder, "--bundle", bundle, "-o", output, "--limit", 1, "--layers", layers, "--json")
    assert done.exit_code == 0, done.exception
    (face,) = list(open_bundle(bundle).frames.read(output.read_bytes()))
    assert face.layers == layers
    assert json.loads(done.stdout)["pictures"] == 1


def test_faces_wait_in_a_spool_basic_layers_first(folder: Path, bundle: Path, tmp_path: Path) -> None:
    spool, output = tmp_path / "faces.spool", tmp_path / "faces.stsq"
    common = ("--source", folder, "--bundle", bundle, "--spool", spool, "--device", "door-1", "-o", output, "--json")
    assert json.loads(run(*common).stdout)["spool"] == str(spool)
    opened = open_bundle(bundle)
    faces = list(opened.frames.read(output.read_bytes()))
    with Spool(spool) as kept:
        first = kept.lease(9, 60)
        assert first is not None
        assert kept.settle(first) == 0
        rest = kept.lease(9, 60)
        assert rest is not None
        assert (kept.device, first.first, rest.first, first.model_id) == ("door-1", 0, 0, opened.frames.model_id)
    assert [opened.frames.face(frame) for frame in rest.frames] == faces
    ends = opened.frames.entropy.layer_ends
    assert [opened.frames.face(frame) for frame in first.frames] == [face.truncate(1, ends) for face in faces]
    assert "send faces twice" in str(run(*common, "--url", "http://127.0.0.1:9").exception)


def test_capturing_a_folder_again_adds_nothing_to_the_spool(folder: Path, bundle: Path, tmp_path: Path) -> None:
    spool = tmp_path / "faces.spool"
    common = ("--source", folder, "--bundle", bundle, "--spool", spool, "--json")
    assert json.loads(run(*common).stdout)["repeated"] == 0
    (folder / "again.png").write_bytes((folder / "astronaut.png").read_bytes())
    report = json.loads(run(*common).stdout)
    assert (report["faces"], report["repeated"]) == (3, 3)
    with Spool(spool) as kept:
        assert (kept.status().next, kept.waiting) == (2, 2)
    assert "3 of these faces were there before" in run(*common[:-1]).stdout


@pytest.mark.parametrize(("layers", "codings"), [(1, 1), (2, 2), (3, 2)])
def test_each_frame_of_a_face_is_entropy_coded_once_and_none_is_decoded(
    layers: int, codings: int, folder: Path, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: Counter[str] = Counter()
    finish, pop_all = Encoder.finish, Decoder.pop_all

    def count_finish(self: Encoder) -> bytes:
        calls["coded"] += 1
        return finish(self)

    def count_pop(self: Decoder, rows: Iterable[Sequence[int]]) -> list[int]:
        calls["decoded"] += 1
        return pop_all(self, rows)

    monkeypatch.setattr("edge_stscq.device.encoder._verify", lambda encoder: None)  # it codes the golden payloads
    monkeypatch.setattr(Encoder, "finish", count_finish)
    monkeypatch.setattr(Decoder, "pop_all", count_pop)
    output, common = tmp_path / "faces.stsq", ("--source", folder, "--bundle", bundle, "--layers", layers)
    assert run(*common, "--spool", tmp_path / "faces.spool", "-o", output).exit_code == 0
    assert calls == {"coded": 2 * codings}, "two portraits, each whole and with its basic layer"
    list(open_bundle(bundle).frames.read(output.read_bytes()))
    assert calls["decoded"] > 0, "the counter would have seen it"


@pytest.fixture
def server() -> Iterator[tuple[str, list[bytes]]]:
    """An address, and the bodies that arrive there."""
    got: list[bytes] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:  # noqa: N802 - the name that http.server calls
            body = self.rfile.read(int(self.headers["Content-Length"]))
            got.append(body)
            receipt = stream_acknowledgement(body).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(receipt)))
            self.end_headers()
            self.wfile.write(receipt)

        def log_message(self, *arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        thread = threading.Thread(target=listening.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.server_port}", got
        finally:
            listening.shutdown()
            thread.join()


def test_frames_reach_a_server_as_they_are_in_the_file(
    server: tuple[str, list[bytes]], folder: Path, bundle: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr("demo_camera.sinks.PERIOD", 1e9)
    url, got = server
    output = tmp_path / "faces.stsq"
    done = run(
        "--source", folder, "--bundle", bundle, "-o", output, "--json", "--url", url, "--device", "door",
    )  # fmt: skip
    assert done.exit_code == 0, done.exception
    assert json.loads(done.stdout)["acknowledged"] == 2
    assert got == [output.read_bytes()]
    assert section_of(output).count(b"\x04door") == 1


def rejected(*arguments: object) -> str:
    """The one-line error of a run that has to fail."""
    done = run(*arguments)
    assert isinstance(done.exception, EdgeError), done.output
    message = str(done.exception)
    assert "\n" not in message
    return message


def test_bad_sources_leave_no_file(bundle: Path, tmp_path: Path, portrait: dict[str, Path]) -> None:
    output = tmp_path / "out" / "faces.stsq"
    output.parent.mkdir()
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(portrait["grace_hopper"].read_bytes()[:9000])
    for source, words in ((broken, "damaged"), (tmp_path / "nowhere", "does not exist")):
        assert words in rejected("--source", source, "--bundle", bundle, "-o", output)
        assert list(output.parent.iterdir()) == []


@pytest.mark.parametrize("pictures", [0, 2])
def test_nobody_came_and_that_is_no_error(pictures: int, bundle: Path, tmp_path: Path) -> None:
    folder, output = tmp_path / "pictures", tmp_path / "faces.stsq"
    folder.mkdir()
    for number in range(pictures):
        cv2.imwrite(str(folder / f"{number}.png"), np.full((200, 300, 3), 120, np.uint8))
    output.write_bytes(b"of yesterday")
    done = run("--source", folder, "--bundle", bundle, "-o", output, "--json")
    assert done.exit_code == 0, done.exception
    report = json.loads(done.stdout)
    expected = {"no face": pictures} if pictures else {}
    assert (report["pictures"], report["faces"], report["refused"], report["output"]) == (pictures, 0, expected, None)
    assert output.read_bytes() == b"of yesterday"
    words = run("--source", folder, "--bundle", bundle, "-o", output).stdout
    assert "not written, since no face was captured" in words.replace("\n", " ")


def test_damaged_picture_of_a_folder_is_named_and_counted_and_the_rest_captured(
    folder: Path, bundle: Path, tmp_path: Path
) -> None:
    (folder / "c.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    done = run("--source", folder, "--bundle", bundle, "-o", tmp_path / "faces.stsq", "--json")
    assert done.exit_code == 0, done.exception
    report = json.loads(done.stdout)
    assert (report["pictures"], report["faces"], report["damaged"]) == (3, 2, 1)
    assert "c.png is damaged" in done.stderr
    assert len(list(open_bundle(bundle).frames.read((tmp_path / "faces.stsq").read_bytes()))) == 2


def test_what_can_be_known_at_the_start_is_said_before_a_picture_is_read(
    folder: Path, bundle: Path, tmp_path: Path
) -> None:
    pictures, full = ("--source", folder, "--bundle", bundle), tmp_path / "full"
    (full / "earlier").mkdir(parents=True)
    (tmp_path / "file").touch()
    out = ("-o", tmp_path / "out.stsq")
    for arguments, words in (
        ((*pictures, "-o", tmp_path / "no_such_folder" / "x.stsq"), "No such file or directory"),
        ((*pictures, "-o", full), "Is a directory"),
        ((*pictures, "--spool", tmp_path / "file" / "x.spool"), "cannot open the spool"),
        ((*pictures, *out, "--save-crops", full), "holds files already"),
        ((*pictures, *out, "--save-refused", full), "holds files already"),
        ((*pictures, *out, "--limits", tmp_path / "nowhere"), "cannot read the limits"),
        ((*pictures, *out, "--set", "sharpness"), "NAME=VALUE"),
        ((*pictures, *out, "--url", "ftp://x"), "is not a server address"),
        ((*pictures, *out, "--best-after", 0), "give more than 0"),
        ((*pictures, *out, "--margin", 0), "give more than 0"),
        ((*pictures, *out, "--rotate", 45), "no quarter turn"),
        ((*pictures, *out, "--region", "1,2"), "is no region"),
        (("--source", folder, "--bundle", tmp_path / "file", *out), "bundle"),
        ((*pictures, *out, "--explain"), "--explain keeps nothing"),
    ):
        before = sorted(tmp_path.rglob("*"))
        assert words in rejected(*arguments)
        assert sorted(tmp_path.rglob("*")) == before, arguments


def test_faces_are_its_owners_alone_and_links_and_devices_stay(folder: Path, bundle: Path, tmp_path: Path) -> None:
    link, crops = tmp_path / "link.stsq", tmp_path / "crops"
    link.symlink_to(tmp_path / "target.stsq")
    pictures = ("--source", folder, "--bundle", bundle)
    assert run(*pictures, "-o", link, "--save-crops", crops).exit_code == 0
    assert link.is_symlink()
    for path in (tmp_path / "target.stsq", *crops.iterdir()):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
    assert run(*pictures, "-o", "/dev/null").exit_code == 0
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)


@pytest.mark.parametrize(("wanted", "captured"), [(None, 2), (1, 1)])
def test_all_faces_of_a_picture_or_the_best_of_them(
    wanted: int | None, captured: int, folder: Path, bundle: Path, tmp_path: Path
) -> None:
    (folder / "b_wall.png").unlink()
    path = tmp_path / "two.png"
    cv2.imwrite(str(path), np.hstack([cv2.resize(cv2.imread(str(one)), (500, 500)) for one in folder.iterdir()]))
    options = () if wanted is None else ("--faces", wanted)
    report = json.loads(run("--source", path, "--bundle", bundle, "-o", tmp_path / "x", "--json", *options).stdout)
    assert (report["found"], report["faces"]) == (2, captured)
    assert report["refused"] == ({} if wanted is None else {"more faces than wanted": 1})


def test_limits_come_from_a_file_and_from_options(folder: Path, bundle: Path, tmp_path: Path) -> None:
    limits, refused = tmp_path / "gate.toml", tmp_path / "refused"
    limits.write_text("inter_eye_distance = 1000\n")
    common = ("--source", folder, "--bundle", bundle, "-o", tmp_path / "x.stsq", "--json", "--limits", limits)
    assert json.loads(run(*common, "--save-refused", refused).stdout)["refused"] == {"too small": 2, "no face": 1}
    assert sorted(path.name for path in refused.iterdir()) == ["000000-too-small.png", "000001-too-small.png"]
    assert json.loads(run(*common, "--set", "inter_eye_distance=off").stdout)["faces"] == 2


def test_explain_shows_every_measure_and_needs_no_bundle(folder: Path, tmp_path: Path) -> None:
    done = run("--source", folder, "--explain", "--bundle", tmp_path / "nowhere", "--set", "inter_eye_distance=1000")
    assert done.exit_code == 0, done.exception
    for words in ("b_wall.png: no face found", "inter_eye_distance", "least 1000", "too small", "sharpness", "quality"):
        assert words in done.stdout
    report = json.loads(run("--source", folder, "--explain", "--json", "--limit", 1).stdout)
    (face,) = report["faces"]
    assert (face["picture"], face["refused"]) == ("astronaut.png", None)
    names = [verdict["name"] for verdict in face["verdicts"]]
    assert {"detector_score", "upright", "second_look"} <= set(names)
    assert "goes on for ever" in rejected("--source", "0", "--explain")


def film(path: Path, picture: Path, pictures: int) -> Path:
    """A film of somebody who stands still."""
    image = cv2.resize(cv2.imread(str(picture)), (320, 320))
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, (320, 320))
    for _ in range(pictures):
        writer.write(image)
    writer.release()
    return path


def test_film_of_somebody_who_stays_gives_one_face(portrait: dict[str, Path], bundle: Path, tmp_path: Path) -> None:
    source = film(tmp_path / "film.avi", portrait["astronaut"], 30)
    output = tmp_path / "faces.stsq"
    report = json.loads(run("--source", source, "--bundle", bundle, "-o", output, "--every", 5, "--json").stdout)
    assert (report["pictures"], report["tracks"], report["faces"]) == (30, 1, 1)
    assert report["searched"] < 12
    ((_, frame),) = read_frames(output.read_bytes())
    assert frame.track == 0
    assert frame.quality is not None


def test_visits_of_two_captures_on_one_spool_are_told_apart(
    portrait: dict[str, Path], bundle: Path, tmp_path: Path
) -> None:
    spool = tmp_path / "faces.spool"
    for name, path in portrait.items():
        source = film(tmp_path / f"{name}.avi", path, 3)
        assert run("--source", source, "--bundle", bundle, "--spool", spool).exit_code == 0
    with Spool(spool) as kept:
        lease = kept.lease(9, 60)
        assert lease is not None
        assert [frame.track for frame in lease.frames] == [0, 1]


class Door:
    """`edge-stscq capture` as a process, before which a portrait stands; its pictures come through a pipe."""

    def __init__(self, portrait: Path, bundle: Path, *options: object) -> None:
        image = cv2.resize(cv2.imread(str(portrait)), (320, 320))
        self.picture = cv2.imencode(".jpg", image)[1].tobytes()
        words = ("capture", "--source", "-", "--bundle", bundle, "--json", *options)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "edge_stscq", *map(str, words)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )  # fmt: skip

    def show(self, pictures: int) -> None:
        assert self.process.stdin is not None
        for _ in range(pictures):
            self.process.stdin.write(self.picture)
            self.process.stdin.flush()

    def show_until(self, there: Callable[[], bool]) -> None:
        while not there():
            assert self.process.poll() is None, self.process.communicate()
            self.show(1)

    def end(self, number: signal.Signals) -> tuple[int, dict[str, Any], str]:
        """Exit code, counters and what was said."""
        self.process.send_signal(number)
        out, err = self.process.communicate(timeout=60)
        return self.process.returncode, json.loads(out), err.decode()


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 0), (signal.SIGTERM, 0), (signal.SIGHUP, 128 + signal.SIGHUP)]
)
def test_signal_ends_a_camera_and_keeps_the_visit_that_goes_on(
    number: signal.Signals, code: int, portrait: dict[str, Path], bundle: Path, tmp_path: Path
) -> None:
    output, spool = tmp_path / "faces.stsq", tmp_path / "faces.spool"
    crops = tmp_path / "refused"
    door = Door(portrait["astronaut"], bundle, "-o", output, "--spool", spool, "--save-refused", crops)
    door.show_until(crops.exists)  # the last thing but one that is made before pictures are read
    door.show_until(lambda: any(path.name.startswith(".faces.stsq.") for path in tmp_path.iterdir()))
    door.show(40)
    ended, report, said = door.end(number)
    assert ended == code, said
    assert (report["ended"], report["faces"], report["tracks"]) == (number.name, 1, 1)
    assert len(list(read_frames(output.read_bytes()))) == 1
    with Spool(spool) as kept:
        assert kept.waiting == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "bundle", "faces.spool", "faces.spool-reserve", "faces.spool.taken", "faces.stsq", "refused",
    ]  # fmt: skip


@pytest.mark.parametrize("lets_go", [True, False])
def test_faces_wait_while_another_process_holds_the_spool(
    lets_go: bool, portrait: dict[str, Path], bundle: Path, tmp_path: Path
) -> None:
    spool = tmp_path / "faces.spool"
    door = Door(portrait["astronaut"], bundle, "--spool", spool, "--best-after", 0.1)
    door.show_until(lambda: spool.with_name("faces.spool.taken").exists())
    with contextlib.closing(sqlite3.connect(spool, timeout=30, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        (before,) = other.execute("SELECT count(*) FROM faces").fetchone()
        door.show(40)
        time.sleep(2 * keeper._WAIT)  # it is longer away than is waited for it
        door.show(5)
        assert door.process.poll() is None, "it goes on"
        if lets_go:
            other.execute("ROLLBACK")
            ended, report, said = door.end(signal.SIGTERM)
        else:
            ended, report, said = door.end(signal.SIGTERM)
            other.execute("ROLLBACK")
    with Spool(spool) as kept:
        waiting = kept.waiting
    if lets_go:
        assert (ended, report["lost"], report["faces"]) == (0, 0, waiting), said
    else:
        assert (ended, report["lost"], waiting) == (2, report["faces"] - before, before), said
        assert f"{report['lost']} of the faces are not in {spool} and are lost" in said
    assert report["faces"] >= 1
    assert said.count("another process holds the spool") == (1 if lets_go else 2), "when it begins, and in the error"


def test_signal_ends_a_film_early_and_says_so(portrait: dict[str, Path], bundle: Path, tmp_path: Path) -> None:
    source, output = film(tmp_path / "film.avi", portrait["astronaut"], 400), tmp_path / "faces.stsq"
    door = Door(portrait["astronaut"], bundle, "--source", source, "-o", output)
    while not any(path.name.startswith(".faces.stsq.") for path in tmp_path.iterdir()):
        assert door.process.poll() is None, door.process.communicate()
    ended, report, said = door.end(signal.SIGTERM)
    assert (ended, report["ended"]) == (128 + signal.SIGTERM, "SIGTERM"), said
    assert report["pictures"] < 400


def test_something_has_to_be_kept(folder: Path, bundle: Path) -> None:
    assert "nothing would be kept" in rejected("--source", folder, "--bundle", bundle)


def test_a_bundle_for_other_crops_is_refused(folder: Path, tmp_path: Path) -> None:
    mirrored = tuple((112 - x, y) for x, y in CropSpec().template)
    bundle = write_sums_bundle(tmp_path / "other", crop=CropSpec(template=mirrored))
    message = rejected("--source", folder, "--bundle", bundle, "-o", tmp_path / "faces.stsq")
    assert "crops that this camera does not make" in message


def protected_options(tmp_path: Path) -> tuple[object, ...]:
    secret = tmp_path / "matcher.secret"
    if not secret.exists():
        write_new_secret(secret)
    return ("--protected", "--secret", f"file:{secret}", "--keys", tmp_path / "matcher.keys")


def test_protected_capture_keeps_templates_that_match_and_no_token(folder: Path, bundle: Path, tmp_path: Path) -> None:
    output, crops = tmp_path / "faces.stsq", tmp_path / "crops"
    run("--source", folder, "--bundle", bundle, "--save-crops", crops)
    done = run("--source", folder, "--bundle", bundle, "-o", output, "--device", "door-1", *protected_options(tmp_path))
    assert done.exit_code == 0, done.exception
    opened, scheme = open_bundle(bundle), scheme_named("rotated")
    with pytest.raises(FrameError, match="protected template, from which no face is drawn without its key"):
        list(opened.frames.read(output.read_bytes()))
    templates = [read_protected(frame) for _, frame in read_frames(output.read_bytes())]
    keys = KeyStore(tmp_path / "matcher.keys", read_secret(f"file:{tmp_path / 'matcher.secret'}"))
    records = {key.id: record for record, key in keys.keys().items()}
    assert [len(template) for template in templates] == [64, 64]
    assert {template[1:9] for template in templates} == records.keys()
    assert all(record.startswith("door-1-") for record in records.values())
    encoder = load_encoder(opened)
    shown = [encoder.encode(read_image(path)) for path in sorted(crops.iterdir())]
    for template, face in zip(templates, Matcher.of(opened).embed(shown), strict=True):
        key = keys.key(
            records[template[1:9]]
        )  # the made-up encoder tells nobody apart, so opposites stand for strangers
        assert scheme.match(template, face, key) > 0.9
        assert scheme.match(template, -face, key) < -0.9
    keys.revoke(records[templates[0][1:9]])
    with pytest.raises(EdgeError, match="has no key: it was never enrolled, or it was revoked"):
        keys.key(records[templates[0][1:9]])


def test_protected_capture_to_a_full_disk_leaves_no_record(
    folder: Path, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options, always = protected_options(tmp_path), ("--source", folder, "--bundle", bundle, "-o")
    assert run(*always, tmp_path / "kept.stsq", *options).exit_code == 0
    keys = KeyStore(tmp_path / "matcher.keys", read_secret(f"file:{tmp_path / 'matcher.secret'}"))
    kept = keys.keys().keys()
    assert len(kept) == 2

    def full(file: NewFile, data: bytes) -> None:
        assert len(keys) == 4, "issued, since a template needs its key before it is written"
        raise EdgeError("the disk is full")

    monkeypatch.setattr(NewFile, "append", full)
    done = run(*always, tmp_path / "lost.stsq", *options)
    assert "the disk is full" in str(done.exception)
    assert not (tmp_path / "lost.stsq").exists()
    assert keys.keys().keys() == kept


def test_protected_frames_reach_a_server_as_they_are_in_the_file(
    server: tuple[str, list[bytes]], folder: Path, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("demo_camera.sinks.PERIOD", 1e9)
    url, got = server
    output = tmp_path / "faces.stsq"
    done = run(
        "--source", folder, "--bundle", bundle, "-o", output, "--json", "--url", url, *protected_options(tmp_path)
    )
    assert done.exit_code == 0, done.exception
    assert json.loads(done.stdout)["acknowledged"] == 2
    assert got == [output.read_bytes()]
    assert all(len(read_protected(frame)) == 64 for _, frame in read_frames(got[0]))


def test_protected_frames_wait_in_a_spool(folder: Path, bundle: Path, tmp_path: Path) -> None:
    spool = tmp_path / "faces.spool"
    done = run("--source", folder, "--bundle", bundle, "--spool", spool, *protected_options(tmp_path))
    assert done.exit_code == 0, done.exception
    with Spool(spool) as kept:
        lease = kept.lease(9, 60)
        assert lease is not None
        assert [len(read_protected(frame)) for frame in lease.frames] == [64, 64]
        kept.settle(lease)
        assert kept.lease(9, 60) is None, "a template is one frame, not a basic layer and further ones"


@pytest.mark.parametrize(("arguments", "reason"), [
    (("--url", "http://localhost:1", "--save-crops", "crops"), "no picture"),
    (("--spool", "a.spool", "--save-refused", "refused"), "no picture"),
    (("-o", "a.stsq", "--save-crops", "crops"), "no picture"),
    (("-o", "a.stsq", "--save-refused", "refused"), "no picture"),
])  # fmt: skip
def test_protected_capture_writes_nothing_but_templates(
    folder: Path, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], reason: str
) -> None:
    options = protected_options(tmp_path)
    monkeypatch.chdir(tmp_path)
    before = set(tmp_path.iterdir())
    done = run("--source", folder, "--bundle", bundle, *options, *arguments)
    assert isinstance(done.exception, EdgeError)
    assert reason in str(done.exception)
    assert set(tmp_path.iterdir()) == before


def test_protected_capture_refuses_missing_open_and_other_secrets(folder: Path, bundle: Path, tmp_path: Path) -> None:
    options, output = protected_options(tmp_path), tmp_path / "faces.stsq"
    always = ("--source", folder, "--bundle", bundle, "-o", output)
    assert "needs --secret SOURCE and --keys FILE" in str(run(*always, "--protected").exception)
    assert "are for protected templates" in str(run(*always, *options[1:]).exception)
    KeyStore.create(tmp_path / "matcher.keys", b"another secret of 32 characters!")
    assert "hangs on another secret" in str(run(*always, *options).exception)
    (tmp_path / "matcher.secret").chmod(0o644)
    assert "others can read or write the secret file" in str(run(*always, *options).exception)
    assert not output.exists()

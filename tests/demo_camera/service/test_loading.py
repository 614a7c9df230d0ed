"""Settings of many cameras: what is read, what is refused, and in which words."""

from collections.abc import Callable
from pathlib import Path

import pytest

from demo_camera.service.loading import WrongSettingsError, load_settings
from demo_camera.service.settings import Settings
from edge_stscq._released import BUNDLE
from edge_stscq.errors import EdgeError

Write = Callable[[str], Path]
Secret = Callable[[str, str], Path]
DOOR = '[[camera]]\nname = "door"\nsource = "0"\n'


def problems(file: Path) -> list[str]:
    with pytest.raises(WrongSettingsError) as caught:
        load_settings(file)
    return caught.value.problems


def test_smallest_file_has_one_camera_and_the_defaults(write_settings: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EDGE_STSCQ_CAMERA_SPOOL__FOLDER")
    settings = load_settings(write_settings(DOOR))
    (camera,) = settings.camera
    assert (camera.name, camera.source.get_secret_value(), camera.rotate) == ("door", "0", 0)
    assert (settings.bundle, settings.threads, settings.server, settings.metrics) == (BUNDLE, 1, None, None)
    assert settings.spool.folder == Path("spool")


def test_environment_overrides_the_file_and_is_named_where_it_is_wrong(
    write_settings: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write_settings(f'threads = 2\n[server]\nurl = "http://one"\n{DOOR}')
    monkeypatch.setenv("EDGE_STSCQ_CAMERA_THREADS", "3")
    monkeypatch.setenv("EDGE_STSCQ_CAMERA_SERVER__BUDGET", "2kB/min")
    settings = load_settings(file)
    assert settings.threads == 3
    assert settings.server is not None
    assert (settings.server.url, settings.server.budget) == ("http://one", "2kB/min")
    monkeypatch.setenv("EDGE_STSCQ_CAMERA_THREADS", "none")
    (problem,) = problems(file)
    assert problem.startswith("threads: ")
    assert problem.endswith("(from EDGE_STSCQ_CAMERA_THREADS)")


@pytest.mark.parametrize(
    ("text", "place", "word"),
    [
        (f"bundel = 'x'\n{DOOR}", "bundel: ", "did you mean bundle?"),
        (f"{DOOR}rotat = 90\n", "[[camera]] door, rotat: ", "did you mean rotate?"),
        (f"{DOOR}zzz = 90\n", "[[camera]] door, zzz: ", "use name, source, "),
        (f"{DOOR}rotate = 91\n", "[[camera]] door, rotate: ", "0, 90, 180 or 270"),
        (f"{DOOR}max_rate = 0\n", "[[camera]] door, max_rate: ", "greater than 0"),
        (f"{DOOR}layers = 16\n", "[[camera]] door, layers: ", "less than or equal to 15"),
        (f"{DOOR}region = '1,2'\n", "[[camera]] door, region: ", "x,y,w,h"),
        (f"{DOOR}[camera.limits]\nsharpnes = 3\n", "[camera.limits]", "did you mean sharpness?"),
        ("[[camera]]\nname = 'door'\n", "[[camera]] door, source: ", "is missing"),
        ("[[camera]]\nname = 'a b'\nsource = '0'\n", "[[camera]] a b, name: ", 'e.g. name = "door"'),
        ("[[camera]]\nsource = '0'\n", "[[camera]] number 1, name: ", "is missing"),
        (DOOR + DOOR, "[[camera]]: ", "2 cameras are named door"),
        ("camera = []", "[[camera]]: ", "there is no camera"),
        ("", "[[camera]]: ", "is missing"),
        (f"[spool]\nsize = '12'\n{DOOR}", "[spool], size: ", "64MiB"),
        (f"[spool]\nsize = '1KiB'\n{DOOR}", "[spool], size: ", "too small"),
        (f"[spool]\nseal = 'file:none'\n{DOOR}", "[spool], seal: ", "cannot read the secret file none"),
        (f"[spool]\nseal = 'letmein'\n{DOOR}", "[spool], seal: ", "give file:PATH, command:PROGRAM"),
        (f"[server]\nurl = 'server'\n{DOOR}", "[server], url: ", "http://"),
        (f"[server]\nurl = 'http://u:p@x'\n{DOOR}", "[server], url: ", "would be logged"),
        (f"[server]\nurl = 'http://x'\nbudget = '3'\n{DOOR}", "[server], budget: ", "2kB/min"),
        (f"[server]\nurl = 'http://x'\ntoken_file = 'none'\n{DOOR}", "[server], token_file: ", "No such file"),
        (f"[server]\nurl = 'http://x'\ncert = '/dev/null'\n{DOOR}", "[server]: ", "cert and key belong together"),
        (f"[metrics]\nhost = '0.0.0.0'\n{DOOR}", "[metrics]: ", "public = true"),
        (f"[events.mqtt]\nhost = 'x'\nprot = 1\n{DOOR}", "[events.mqtt], prot: ", "did you mean port?"),
        (f"[events.mqtt]\nhost = 'x'\nprefix = 'a/#'\n{DOOR}", "[events.mqtt], prefix: ", "match pattern"),
        (f"[[events.webhook]]\nurl = 'http://x'\n{DOOR}", "[[events.webhook]] number 1, secret_file: ", "is missing"),
    ],
)
def test_problem_has_its_place_and_a_next_step(write_settings: Write, text: str, place: str, word: str) -> None:
    (problem,) = problems(write_settings(text))
    assert problem.startswith(place)
    assert word in problem


def test_everything_that_is_wrong_is_said_at_once(write_settings: Write) -> None:
    file = write_settings(f"threads = 0\n[spool]\nsize = '1'\n{DOOR}rotate = 1\n")
    assert len(problems(file)) == 3
    with pytest.raises(EdgeError, match="and 2 more, see: edge-stscq camera check"):
        load_settings(file)


@pytest.mark.parametrize(("text", "words"), [("threads = ", "is not TOML"), ("\xff", "is not TOML")])
def test_file_that_is_no_toml_is_named(write_settings: Write, text: str, words: str) -> None:
    file = write_settings("")
    file.write_bytes(text.encode("latin-1"))
    with pytest.raises(EdgeError, match=words):
        load_settings(file)
    with pytest.raises(EdgeError, match="cannot read"):
        load_settings(file.with_name("none.toml"))


def test_secret_that_others_may_read_is_refused(write_settings: Write, secret: Secret) -> None:
    token = secret("token", "edge_1")
    file = write_settings(f"[server]\nurl = 'http://x'\ntoken_file = '{token}'\n{DOOR}")
    assert load_settings(file).server is not None
    token.chmod(0o640)
    (problem,) = problems(file)
    assert problem.endswith(f"run: chmod 600 {token}")
    token.chmod(0o600)
    token.write_text(" \n")
    assert "is empty" in problems(file)[0]


def test_password_in_an_address_needs_a_file_that_others_cannot_read(write_settings: Write) -> None:
    file = write_settings("[[camera]]\nname = 'door'\nsource = 'rtsp://user:hunter2@camera/stream'\n")
    file.chmod(0o644)
    (problem,) = problems(file)
    assert problem.startswith("[[camera]] door, source: has a password")
    file.chmod(0o600)
    assert load_settings(file).camera[0].name == "door"


@pytest.mark.parametrize("mode", [0o600, 0o644])
def test_secrets_are_in_no_error_and_no_representation(write_settings: Write, secret: Secret, mode: int) -> None:
    token = secret("token", "hunter2")
    file = write_settings(
        f"[server]\nurl = 'http://u:hunter2@x'\ntoken_file = '{token}'\n[[events.webhook]]\nurl = 'http://u:hunter2@x'\n"
        "[[camera]]\nname = 'door'\nsource = 'rtsp://user:hunter2@camera/stream'\nrotate = 1\n"
    )
    file.chmod(mode)
    assert not [problem for problem in problems(file) if "hunter2" in problem]
    file.chmod(0o600)
    file.write_text("[[camera]]\nname = 'door'\nsource = 'rtsp://user:hunter2@camera/stream'\n")
    settings = load_settings(file)
    assert "hunter2" not in repr(settings) + settings.model_dump_json()


def test_password_of_mqtt_travels_encrypted_or_stays_here(write_settings: Write, secret: Secret) -> None:
    lines = f"username = 'u'\npassword_file = '{secret('password', 'x')}'\n"
    assert load_settings(write_settings(f"[events.mqtt]\nhost = 'localhost'\n{lines}{DOOR}"))
    assert load_settings(write_settings(f"[events.mqtt]\nhost = 'broker'\ntls = true\n{lines}{DOOR}"))
    assert "in the clear" in problems(write_settings(f"[events.mqtt]\nhost = 'broker'\n{lines}{DOOR}"))[0]


def test_credential_of_systemd_may_have_its_mode(
    write_settings: Write, secret: Secret, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = secret("token", "edge_1")
    token.chmod(0o440)
    file = write_settings(f"[server]\nurl = 'http://x'\ntoken_file = '{token}'\n{DOOR}")
    assert problems(file)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(token.parent))
    assert load_settings(file)


def test_schema_describes_every_key(write_settings: Write) -> None:
    schema = Settings.model_json_schema()
    assert schema["additionalProperties"] is False
    assert {"camera", "spool", "server", "events", "metrics", "bundle"} <= schema["properties"].keys()
    assert schema["$defs"]["CameraSettings"]["properties"]["rotate"]["enum"] == [0, 90, 180, 270]

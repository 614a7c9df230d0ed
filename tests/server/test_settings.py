"""Settings of a server: their sources in order, sizes, and what is wrong in one line."""

import pickle
from pathlib import Path

import pytest

from edge_stscq.errors import EdgeError
from edge_stscq.server.settings import ServerSettings, load_settings


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "server.toml"
    path.write_text('model = ["one", "two"]\nport = 1\ndeadline = 3.5\ncache_bytes = "128MiB"\n')
    return path


def test_load_settings_order_of_sources(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGE_STSCQ_PORT", "2")
    monkeypatch.setenv("EDGE_STSCQ_DEADLINE", "4.5")
    monkeypatch.setenv("EDGE_STSCQ_TOKEN", "of the client")
    monkeypatch.setenv("EDGE_STSCQ_HOST", "")
    settings = load_settings(config, port=3)
    assert (settings.port, settings.deadline, settings.cache_bytes, settings.host) == (3, 4.5, 128 << 20, "127.0.0.1")
    assert settings.model == (Path("one"), Path("two"))
    assert type(settings) is ServerSettings
    assert pickle.loads(pickle.dumps(settings)) == settings


def test_load_settings_without_file(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_settings(model=[Path("one")]) == ServerSettings(model=(Path("one"),))
    monkeypatch.setenv("EDGE_STSCQ_MODEL", "one:two")
    assert load_settings().model == (Path("one"), Path("two"))


@pytest.mark.parametrize(("given", "size"), [("64MiB", 64 << 20), ("2kB", 2000), (1000, 1000), (1000.0, 1000)])
def test_settings_size(given: object, size: int) -> None:
    assert ServerSettings(model=(Path("one"),), bytes_per_minute=given).bytes_per_minute == size  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"setting model: field required; it comes from .*EDGE_STSCQ_MODEL, or .*server\.toml"),
        ("model = 'one'\nport = -1", "setting port: input should be greater than or equal to 0"),
        ("model = 'one'\ncache_bytes = 'much'", "setting cache_bytes: could not parse"),
        ("model = 'one'\nmax_body_bytes = 63", "setting max_body_bytes: .*greater than or equal to 64"),
        ("model = 'one'\nprot = 1", "setting prot: extra inputs are not permitted"),
        ("model = [", "is not TOML: .*port = 8377"),
        ("model = '\ud800'", "is not TOML"),
    ],
)
def test_load_settings_bad_file(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "server.toml"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(EdgeError, match=message) as caught:
        load_settings(path)
    assert "\n" not in str(caught.value)


def test_load_settings_absent_file(tmp_path: Path) -> None:
    with pytest.raises(EdgeError, match="cannot read the settings .*none.toml: No such file.*--config"):
        load_settings(tmp_path / "none.toml")


def test_load_settings_bad_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGE_STSCQ_QUEUE_SIZE", "many")
    with pytest.raises(EdgeError, match="setting queue_size: .*EDGE_STSCQ_QUEUE_SIZE"):
        load_settings(model=[Path("one")])


@pytest.mark.parametrize(
    ("store", "mode", "message"),
    [
        ("faces.db", 0o666, "others may change the settings"), ("faces.db", 0o620, "others may change"),
        ("postgresql://u:secret@h/d", 0o644, "others may read the password in the settings"),
        ("faces.db", 0o644, None), ("postgresql://u@h/d", 0o644, None), ("postgresql://u:secret@h/d", 0o600, None),
    ],
)  # fmt: skip
def test_settings_file_that_others_may_use(tmp_path: Path, store: str, mode: int, message: str | None) -> None:
    config = tmp_path / "server.toml"
    config.write_text(f'model = "m"\nstore = "{store}"\ntrusted_proxies = ["10.0.0.0/8", "::1"]\n')
    config.chmod(mode)
    if message is None:
        assert [str(one) for one in load_settings(config).trusted_proxies] == ["10.0.0.0/8", "::1/128"]
        return
    with pytest.raises(EdgeError, match=f"{message}.*run: chmod 600") as error:
        load_settings(config)
    assert "secret" not in str(error.value)

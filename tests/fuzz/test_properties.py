"""The fuzzers' properties on their corpus and on what Hypothesis makes of it; Atheris is not needed here."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_stscq.errors import FrameError
from edge_stscq.stream import FrameCodec, frame, wire
from edge_stscq.stream.arithmetic import Decoder
from fuzz import CORPUS, FOLDER, properties
from fuzz.properties import PROPERTIES
from fuzz.seeds import WORDS, dictionary, seeds

CASES = [(name, path) for name in PROPERTIES for path in sorted((CORPUS / name).iterdir())]
SEEDS = seeds()
EXAMPLES = {
    "file": 400, "stream": 400, "payload": 400, "packed": 200, "learned": 200, "weights": 300, "manifest": 150,
    "request": 100,
}  # fmt: skip


@pytest.mark.parametrize(("name", "path"), CASES, ids=[f"{name}-{path.name}" for name, path in CASES])
def test_the_corpus_is_replayed(name, path):
    accepted = PROPERTIES[name](path.read_bytes())
    empty = {("request", "seed-1"), ("request", "seed-8")}
    assert accepted == ((name, path.name) not in empty), "a seed should get to the end; these have no frame"


def test_the_corpus_is_what_the_script_makes():
    assert set(SEEDS) == set(PROPERTIES) == {path.name for path in CORPUS.iterdir()}
    for name, inputs in SEEDS.items():
        kept = {path.name: path.read_bytes() for path in (CORPUS / name).iterdir() if path.name.startswith("seed-")}
        assert kept == {f"seed-{number}": data for number, data in enumerate(inputs)}
        assert (FOLDER / f"{name}.dict").read_text() == dictionary(WORDS[name])


def mutations(name):
    """A seed with a stretch replaced by anything or by a word of the dictionary, or anything at all."""

    def replaced(data, at, length, new):
        at %= len(data) + 1
        return data[:at] + new + data[at + length :]

    new = st.binary(max_size=20) | st.sampled_from(WORDS[name])
    changed = st.builds(replaced, st.sampled_from(SEEDS[name]), st.integers(0, 5000), st.integers(0, 20), new)
    return st.binary(max_size=200) | changed


@pytest.mark.parametrize("name", PROPERTIES)
def test_whatever_is_read_comes_back_or_is_refused(name):
    @settings(max_examples=EXAMPLES[name], deadline=None, derandomize=True, database=None)
    @given(mutations(name))
    def holds(data):
        PROPERTIES[name](data)

    holds()


def test_a_reader_that_gives_back_something_else_is_caught(monkeypatch):
    monkeypatch.setattr(FrameCodec, "encode_frame", lambda self, face: b"another")
    monkeypatch.setattr(FrameCodec, "payload", lambda self, face: b"another")
    for name in ("file", "stream", "payload"):
        with pytest.raises(AssertionError):
            PROPERTIES[name](SEEDS[name][-1])


def test_a_writer_that_writes_something_else_is_caught(monkeypatch):
    monkeypatch.setattr(properties, "write_sections", lambda frames, key: wire.write_sections(frames[:1], key)[:-1])
    with pytest.raises(FrameError):
        PROPERTIES["file"](SEEDS["file"][-1])
    monkeypatch.setattr(properties, "write_sections", lambda frames, key: b"")
    with pytest.raises(AssertionError):
        PROPERTIES["file"](SEEDS["file"][-1])


def test_a_template_that_is_read_as_something_else_is_caught(monkeypatch):
    monkeypatch.setattr(properties, "read_protected", lambda frame: bytes(64))
    with pytest.raises(AssertionError):
        PROPERTIES["file"](SEEDS["file"][-2])


def test_an_error_that_is_not_ours_is_caught(monkeypatch):
    def fails(*_):
        raise IndexError("a defect")

    monkeypatch.setattr(Decoder, "pop", fails)
    monkeypatch.setattr(frame, "check_frame", fails)  # what was read once is remembered behind it
    monkeypatch.setattr(wire, "read_section", fails)
    for name in PROPERTIES.keys() - {"manifest", "weights"}:
        with pytest.raises(IndexError):
            PROPERTIES[name](SEEDS[name][0 if name in ("packed", "payload", "request") else -1])

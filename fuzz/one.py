"""One target under Atheris; what `python -m fuzz` starts, and what tries one input again.

python -m fuzz.one stream fuzz/crashes/stream-crash-...
python -m fuzz.one stream -max_total_time=60 FOLDER [FOLDER ...]
"""

import sys

import atheris


def main() -> None:
    """Hand all but the target's name to libFuzzer."""
    name = sys.argv[1]
    with atheris.instrument_imports(include=["edge_stscq"]):
        from fuzz.properties import PROPERTIES

        if name == "request":
            import fuzz.request  # noqa: F401
    target = PROPERTIES[name]
    target(b"")  # what is loaded once (tables, torch, the model) is not an input's time

    def accepts(data: bytes) -> None:
        target(data)

    atheris.Setup([sys.argv[0], *sys.argv[2:]], accepts)
    atheris.Fuzz()


if __name__ == "__main__":
    main()

"""Settings from a TOML file and the environment, and everything that is wrong with them."""

import json
import os
import tomllib
import typing
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsError

from demo_camera.service.files import check_private
from demo_camera.service.settings import PREFIX, Settings
from edge_stscq.errors import EdgeError

_Raw = dict[str, Any]


class WrongSettingsError(EdgeError):
    """Settings that cannot be used; `problems` has a line for each, with its place and the next step."""

    def __init__(self, file: Path, problems: list[str]) -> None:
        more = f"; and {len(problems) - 1} more, see: edge-stscq camera check {file}" if len(problems) > 1 else ""
        super().__init__(f"{file}: {problems[0]}{more}")
        self.problems = problems


def load_settings(file: Path) -> Settings:
    """Settings from the environment, then the TOML file, then the defaults.

    Raises:
        EdgeError: the file cannot be read or is not TOML.
        WrongSettingsError: a value is missing, unknown or out of range, or a file that it names is not usable.

    Example:
        >>> load_settings(Path("cameras.toml")).camera[0].name
        'door'
    """
    raw = _read(file)

    class FromFile(PydanticBaseSettingsSource):
        def get_field_value(self, field: Any, field_name: str) -> tuple[Any, str, bool]:
            return raw.get(field_name), field_name, False

        def __call__(self) -> _Raw:
            return raw

    class Sources(Settings):
        @classmethod
        def settings_customise_sources(
            cls, settings_cls: type[BaseSettings], init_settings: PydanticBaseSettingsSource,
            env_settings: PydanticBaseSettingsSource, dotenv_settings: PydanticBaseSettingsSource,
            file_secret_settings: PydanticBaseSettingsSource,
        ) -> tuple[PydanticBaseSettingsSource, ...]:  # fmt: skip
            return env_settings, FromFile(settings_cls)

    no_arguments: _Raw = {}
    try:
        settings = Sources(**no_arguments)
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False, include_context=False)
        raise WrongSettingsError(file, list(dict.fromkeys(_line(one, raw) for one in found))) from None
    except SettingsError as error:
        raise WrongSettingsError(file, [f"the environment: {error}; write JSON into variables of lists"]) from None
    if problems := list(_open_passwords(file, settings)):
        raise WrongSettingsError(file, problems)
    return settings


def _read(file: Path) -> _Raw:
    try:
        return tomllib.loads(file.read_text("utf-8"))
    except OSError as error:
        raise EdgeError(f"cannot read {file}: {error.strerror}; deploy/camera/cameras.toml is an example") from None
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise EdgeError(f'{file} is not TOML: {error}; write lines such as name = "door"') from None


def _open_passwords(file: Path, settings: Settings) -> Iterator[str]:
    """Passwords in addresses of sources, in a file that others may read."""
    for camera in settings.camera:
        if not _password(camera.source.get_secret_value()):
            continue
        if camera.password_file is not None:
            yield f"[[camera]] {camera.name}, password_file: there is a password in source, too; remove it there"
        try:
            check_private(file)
        except EdgeError as error:
            yield f"[[camera]] {camera.name}, source: has a password, and {error}, or use password_file"


def _password(source: str) -> bool:
    try:
        return "://" in source and bool(urlsplit(source).password)
    except ValueError:
        return False


def _line(error: ErrorDetails, raw: _Raw) -> str:
    """One problem: place, what is wrong, the next step."""
    loc = _to_value(error["loc"])
    place, table, name = _place(loc, raw), _table(loc[:-1]), str(loc[-1]) if loc else ""
    known = {} if table is None else table.model_fields
    if error["type"] == "extra_forbidden":
        near = get_close_matches(name, known, 1, 0.5)
        return f"{place}: there is no such key; " + (f"did you mean {near[0]}?" if near else f"use {', '.join(known)}")
    message = error["msg"].removeprefix("Value error, ")
    message = "is missing" if error["type"] == "missing" else message[:1].lower() + message[1:]
    if "; " not in message and (field := known.get(name)) is not None:
        message += f"; {field.description}" if field.description else ""
        message += f", e.g. {name} = {json.dumps(field.examples[0])}" if field.examples else ""
    variable = PREFIX + "__".join(map(str, loc)).upper()
    return f"{place}: {message}" + (f" (from {variable})" if variable in os.environ else "")


def _to_value(loc: tuple[int | str, ...]) -> tuple[int | str, ...]:
    """A place without the number of an element that is no table."""
    while loc and isinstance(loc[-1], int) and _table(loc) is None:
        loc = loc[:-1]
    return loc


def _place(loc: Sequence[int | str], raw: _Raw) -> str:
    """A place as the file has it, e.g. `[[camera]] door, rotate`."""
    header: list[str] = []
    rest, at, which, several = list(loc), typing.cast(Any, raw), "", False
    while rest and (isinstance(rest[0], int) or _table([*header, rest[0]]) is not None):
        key = rest.pop(0)
        if isinstance(key, int):
            at = at[key] if isinstance(at, list) and key < len(at) else None
            told = at.get("name") if isinstance(at, dict) else None
            which = f" {told}" if isinstance(told, str) else f" number {key + 1}"
        else:
            header.append(key)
            at = at.get(key) if isinstance(at, dict) else None
            several = isinstance(at, list) or header == ["camera"]
    title = ".".join(header)
    table = f"[[{title}]]{which}" if several else f"[{title}]" if title else ""
    return ", ".join(part for part in (table, ".".join(map(str, rest))) if part)


def _table(keys: Sequence[int | str]) -> type[BaseModel] | None:
    """The table that keys lead to; None if they lead to a value or nowhere."""
    table: type[BaseModel] | None = Settings
    for key in keys:
        if isinstance(key, str):
            field = None if table is None else table.model_fields.get(key)
            table = None if field is None else _model_in(field.annotation)
    return table


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for one in typing.get_args(annotation) if (found := _model_in(one)) is not None), None)

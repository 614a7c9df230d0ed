"""Interface and files of a server stay as they are: OpenAPI, and the tables of each SQLite file."""

import contextlib
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from edge_stscq.client.spool import Spool
from edge_stscq.server.app import create_app
from edge_stscq.server.auth.tokens import TokenStore
from edge_stscq.server.settings import ServerSettings


@pytest.fixture
def openapi(tiny_model: Path, tmp_path: Path) -> dict[str, Any]:
    """The document of a server; its version is that of the program."""
    settings = ServerSettings(model=(tiny_model,), store=tmp_path / "faces.db")
    document = create_app(settings).openapi()
    del document["info"]["version"]
    return document


def schema_of(path: Path) -> dict[str, Any]:
    """`.schema` of a SQLite file but for white space, and the numbers in its header of its owner and its version."""
    with contextlib.closing(sqlite3.connect(path)) as db:
        found = db.execute("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY name").fetchall()
        numbers = {name: db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version")}
    return {"statements": [" ".join(sql.split()) for (sql,) in found], **numbers}


def test_openapi_document_is_the_golden_one(openapi: dict[str, Any], expected: Any) -> None:
    golden = expected("openapi", openapi)
    for path, operations in golden["paths"].items():
        assert openapi["paths"].get(path) == operations, path
    assert openapi == golden


def test_sqlite_schemas_are_the_golden_ones(openapi: dict[str, Any], tmp_path: Path, expected: Any) -> None:
    """Of a store and tokens that a server made, tokens that the command made, and a spool."""
    with contextlib.closing(TokenStore(tmp_path / "made.db", create=True)):
        pass
    with Spool(tmp_path / "faces.spool", device="cam"):
        pass
    files = {"store": "faces.db", "tokens": "tokens.db", "spool": "faces.spool"}
    found = {name: schema_of(tmp_path / file) for name, file in files.items()}
    assert schema_of(tmp_path / "made.db") == found["tokens"]
    assert found == expected("schemas", found)

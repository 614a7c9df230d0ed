"""Layouts of databases: their tables, and the Alembic steps that lead there from every earlier layout.

A SQLite file is marked with the program that owns it and with a version. Version 1 is that of files that were written
before there were steps; they have the layout of the first step. Version 2 means that Alembic's table tells.
"""

from dataclasses import dataclass
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection, MetaData, inspect, text

from edge_stscq.errors import EdgeError
from edge_stscq.server.storage import migrations

VERSION_TABLE = "edge_stscq_version"
"""Alembic's note of the layout; other programs in the same database have theirs."""

_BEFORE_ALEMBIC, _NUMBERED_BY_ALEMBIC = 1, 2  # user_version of a SQLite file
_FIRST_STEP = "0001"
_UPGRADE_LOCK = int.from_bytes(b"edgeSTSQ")


@dataclass(frozen=True)
class Layout:
    """One kind of database.

    Attributes:
        metadata: its tables.
        steps: folder of its Alembic revisions, the first of which is 0001.
        application_id: in the header of a SQLite file.
        noun: what messages call it, e.g. "the store".
        option: of the commands, by which the user can choose another one.
        journal_mode: of a SQLite file.
        read_only: True if a SQLite file that cannot be written is of use.
    """

    metadata: MetaData
    steps: Path
    application_id: int
    noun: str
    option: str
    journal_mode: str
    read_only: bool

    def is_current(self, connection: Connection) -> bool:
        """True if nothing has to be written before the database can be used."""
        if connection.dialect.name == "sqlite" and _signature(connection)[:2] != (
            self.application_id, _NUMBERED_BY_ALEMBIC,
        ):  # fmt: skip
            return False
        head = ScriptDirectory.from_config(self.alembic_config(connection)).get_current_head()
        return _revision(connection) == head

    def upgrade(self, connection: Connection, name: str) -> None:
        """Make or upgrade the tables, in a writing transaction.

        Args:
            name: of the database in messages.

        Raises:
            EdgeError: it is another program's, or of a newer version.
        """
        if connection.dialect.name == "sqlite":
            self._upgrade_sqlite(connection, name)
        else:
            self._upgrade_postgres(connection, name)

    def _upgrade_sqlite(self, connection: Connection, name: str) -> None:
        application, version, tables = _signature(connection)
        if application != self.application_id and (application or tables):
            raise EdgeError(f"{name} is a database of another program; choose another {self.option}")
        if application and version not in (_BEFORE_ALEMBIC, _NUMBERED_BY_ALEMBIC):
            raise EdgeError(f"{name} is of version {version}, which this program does not know; upgrade edge-stscq")
        if application and version == _BEFORE_ALEMBIC:
            command.stamp(self.alembic_config(connection), _FIRST_STEP)
        self._run_steps(connection, name)
        if version != _NUMBERED_BY_ALEMBIC:
            connection.exec_driver_sql(f"PRAGMA application_id={self.application_id}")
            connection.exec_driver_sql(f"PRAGMA user_version={_NUMBERED_BY_ALEMBIC}")

    def _upgrade_postgres(self, connection: Connection, name: str) -> None:
        # The first server upgrades, others wait for it, however long it takes.
        connection.execute(text("SET LOCAL lock_timeout = 0"))
        connection.execute(text("SET LOCAL statement_timeout = 0"))
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _UPGRADE_LOCK})
        tables = set(inspect(connection).get_table_names())
        if VERSION_TABLE not in tables and tables & set(self.metadata.tables):
            raise EdgeError(f"{name} has tables of another program; choose another database or schema")
        self._run_steps(connection, name)

    def _run_steps(self, connection: Connection, name: str) -> None:
        """Run the steps that the layout lacks."""
        config = self.alembic_config(connection)
        script = ScriptDirectory.from_config(config)
        if (found := _revision(connection)) is not None:
            if found == script.get_current_head():
                return
            try:
                script.get_revision(found)
            except CommandError:
                raise EdgeError(f"{name} is of layout {found}, newer than this program's; upgrade edge-stscq") from None
        command.upgrade(config, "head")

    def alembic_config(self, connection: Connection) -> Config:
        """Alembic, on this connection."""
        attributes = {"connection": connection, "version_table": VERSION_TABLE, "metadata": self.metadata}
        config = Config(attributes=attributes)
        config.set_main_option("script_location", str(Path(migrations.__file__).parent).replace("%", "%%"))
        config.set_main_option("version_locations", str(self.steps).replace("%", "%%"))
        config.set_main_option("path_separator", "newline")
        return config


def _signature(connection: Connection) -> tuple[int, int, int]:
    """Owner, version and number of tables, indexes and triggers of a SQLite file."""
    application, version, tables = (
        connection.exec_driver_sql(query).scalar_one()
        for query in ("PRAGMA application_id", "PRAGMA user_version", "SELECT count(*) FROM sqlite_master")
    )
    return application, version, tables


def _revision(connection: Connection) -> str | None:
    """Alembic's name of the layout; None if it has noted none."""
    if not inspect(connection).has_table(VERSION_TABLE):
        return None
    found: str = connection.execute(text(f"SELECT version_num FROM {VERSION_TABLE}")).scalar_one()
    return found

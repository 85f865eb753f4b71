"""PostgreSQL: the engine, and whether this release fits the schema it finds."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError

from refapp.release import SCHEMA_HEAD, VERSION
from refapp.settings import DatabaseSettings, read_secret


class SchemaMismatchError(Exception):
    """The database's schema is not one this release can work with."""


def make_engine(settings: DatabaseSettings, *, statement_timeout_ms: int = 5_000, connect_timeout_s: int = 2) -> Engine:
    """A small pool that finds out by itself when the database was restarted; parameters stay out of errors and logs."""
    engine = create_engine(
        URL.create("postgresql+psycopg", settings.user, None, settings.host, settings.port, settings.name),
        pool_size=5,
        max_overflow=5,
        pool_timeout=connect_timeout_s,
        pool_pre_ping=True,
        pool_recycle=1800,
        hide_parameters=True,
        connect_args={
            "connect_timeout": connect_timeout_s,
            "client_encoding": "utf8",
            "application_name": f"refapp {VERSION}",
            "options": f"-c lock_timeout=3000 -c statement_timeout={statement_timeout_ms}",
        },
    )

    @event.listens_for(engine, "do_connect")
    def give_password(_dialect: Any, _record: Any, _arguments: Any, parameters: dict[str, Any]) -> None:
        parameters["password"] = read_secret(settings.password_file)

    return engine


def check_schema(connection: Connection) -> None:
    """Raise SchemaMismatchError unless this release works with the database's schema.

    A newer schema is fine as long as its migrations only added to it: each migration notes in
    `schema_compatibility` the oldest revision whose releases still work after it.
    """
    try:
        row = connection.execute(
            text("SELECT revision, oldest_compatible FROM schema_compatibility ORDER BY revision DESC LIMIT 1")
        ).one_or_none()
    except DBAPIError as error:
        if error.connection_invalidated or getattr(error.orig, "sqlstate", "42P01") != "42P01":
            raise
        row = None  # undefined table: nothing was migrated yet
    if row is None:
        raise SchemaMismatchError(f"The database has no schema, release {VERSION} needs {SCHEMA_HEAD}: migrate it.")
    if row.revision < SCHEMA_HEAD:
        raise SchemaMismatchError(
            f"The database schema is {row.revision}, release {VERSION} needs {SCHEMA_HEAD}: migrate it."
        )
    if row.oldest_compatible > SCHEMA_HEAD:
        raise SchemaMismatchError(
            f"The database schema is {row.revision}, which needs a release of schema {row.oldest_compatible} or newer; "
            f"release {VERSION} knows {SCHEMA_HEAD}: deploy a newer release or downgrade the schema."
        )

"""How migrations run: one at a time, and never in the way of a running app for long."""

import os
import sys

from alembic import context
from sqlalchemy import Connection, text

from refapp.database import make_engine
from refapp.settings import ConfigurationError, DatabaseSettings, Environment

#: Longest a migration waits for a lock the app holds, before it gives up with nothing changed.
LOCK_TIMEOUT = "3s"
STATEMENT_TIMEOUT_MS = 60_000

#: Any number, as long as it is always the same: two migrations exclude each other with it.
ADVISORY_LOCK = 7_203_517


def migrate(connection: Connection) -> None:
    # Waiting for another migration is in order, so only the statement timeout applies to this lock.
    connection.execute(text("SET lock_timeout = 0"))
    connection.execute(text("SELECT pg_advisory_lock(:number)"), {"number": ADVISORY_LOCK})
    connection.execute(text(f"SET lock_timeout = '{LOCK_TIMEOUT}'"))
    connection.commit()
    context.configure(connection=connection, transaction_per_migration=True)
    with context.begin_transaction():
        context.run_migrations()


if context.is_offline_mode():
    sys.exit("Offline migrations are not supported: they could take no lock.")

try:
    settings = DatabaseSettings.read(Environment(os.environ))
except ConfigurationError as error:
    sys.exit(str(error))

engine = make_engine(settings, statement_timeout_ms=STATEMENT_TIMEOUT_MS, connect_timeout_s=10)
with engine.connect() as connection:
    migrate(connection)
engine.dispose()  # ends the session and with it the advisory lock

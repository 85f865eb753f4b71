"""Every release: its directory, its code, and its migrations on a real PostgreSQL."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from sqlalchemy import create_engine, make_url, text
from sqlalchemy.engine import Connection

from assemble import RELEASES, assemble, layers, number

VERSIONS = sorted((path.name for path in RELEASES.iterdir()), key=number)
DATABASE_URL = os.environ.get("REFAPP_TEST_DATABASE_URL")

with_database = pytest.mark.skipif(
    DATABASE_URL is None, reason="REFAPP_TEST_DATABASE_URL names no PostgreSQL database to migrate (it is emptied)"
)


def description(version: str) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((RELEASES / version / "release.yml").read_text())
    return content


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., str]:
    """Run a command in an assembled release, as its image would; the output."""

    def run(version: str, *command: str, status: int = 0, **variables: str) -> str:
        directory = tmp_path / version
        if not directory.exists():
            assemble(version, directory)
        environment = os.environ | {"PYTHONPATH": str(directory)} | variables
        result = subprocess.run(
            [sys.executable, *command], cwd=directory, env=environment, capture_output=True, text=True, check=False
        )
        assert result.returncode == status, result.stderr
        return result.stdout + result.stderr

    return run


@pytest.mark.parametrize("version", VERSIONS)
def test_description_code_and_migrations_agree(run: Callable[..., str], tmp_path: Path, version: str) -> None:
    about = description(version)
    assert about["version"] == version
    assert about["migration_class"] in ("none", "expand", "breaking")
    code = "from refapp.release import *; print(VERSION, SCHEMA_HEAD)"
    assert run(version, "-c", code).split() == [version, about["alembic_head"]]
    revisions = sorted(path.name[:4] for path in (tmp_path / version / "migrations" / "versions").glob("*.py"))
    assert revisions == [f"{each:04}" for each in range(1, int(about["alembic_head"]) + 1)]


def test_nothing_builds_on_a_release_with_a_suffix() -> None:
    assert layers("1.2.0") == ["1.0.0", "1.1.0", "1.2.0"]
    assert layers("1.3.0-broken") == ["1.0.0", "1.1.0", "1.2.0", "1.3.0-broken"]
    with pytest.raises(SystemExit, match="There is no release"):
        layers("9.9.9")


RESULT = """
import json
from refapp.models import Document
document = Document(); document.set_result(summary="s", passages=1, text="Das ist der Text und nicht mehr.")
print(json.dumps(document.result()))
"""


@pytest.mark.parametrize("version", VERSIONS)
def test_the_language_came_with_1_1_0(run: Callable[..., str], version: str) -> None:
    language = {} if version == "1.0.0" else {"language": "de"}
    assert json.loads(run(version, "-c", RESULT)) == {"summary": "s", "passages": 1, **language}


@pytest.mark.parametrize("version", VERSIONS)
def test_only_the_broken_release_breaks(run: Callable[..., str], version: str) -> None:
    code = "from refapp.release import self_check; print(self_check(6.9), self_check(7.5), sep='|')"
    early, late = run(version, "-c", code, BREAK_AFTER_SECONDS="7").strip().split("|")
    assert early == "None"
    assert (late != "None") == version.endswith("-broken")


@pytest.fixture
def database(tmp_path: Path) -> Iterator[tuple[Connection, dict[str, str]]]:
    """An empty database: a connection to it, and the environment that leads a release to it."""
    assert DATABASE_URL is not None
    url = make_url(DATABASE_URL).set(drivername="postgresql+psycopg")
    password = tmp_path / "password"
    password.write_text(url.password or "none")
    variables = {
        "DATABASE_HOST": url.host or "",
        "DATABASE_PORT": str(url.port or 5432),
        "DATABASE_NAME": url.database or "",
        "DATABASE_USER": url.username or "",
        "DATABASE_PASSWORD_FILE": str(password),
    }
    engine = create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text("DROP TABLE IF EXISTS documents, schema_compatibility, alembic_version"))
        yield connection, variables
        connection.execute(text("DROP TABLE IF EXISTS documents, schema_compatibility, alembic_version"))
    engine.dispose()


INSERT = """
INSERT INTO documents (id, filename, media_type, size_bytes, sha256, pages, characters, status, summary,
                       created_at, updated_at)
VALUES (gen_random_uuid(), 'a.txt', 'text/plain', 1, '', 1, 1, 'done', 'kept', now(), now())
"""

LIST = """
import os
from refapp.database import SchemaMismatchError, make_engine
from refapp.documents import Documents
from refapp.settings import DatabaseSettings, Environment
try:
    documents, _ = Documents(make_engine(DatabaseSettings.read(Environment(os.environ)))).page(0, 10)
    print(*(document.summary for document in documents))
except SchemaMismatchError as error:
    print(error)
"""


COLUMNS = """
import json
from refapp.models import Document
print(json.dumps(sorted(column.name for column in Document.__table__.columns)))
"""


@with_database
@pytest.mark.parametrize("version", VERSIONS)
def test_upgrade_and_downgrade(
    run: Callable[..., str], database: tuple[Connection, dict[str, str]], version: str
) -> None:
    connection, variables = database
    run(version, "-m", "alembic", "upgrade", "head", **variables)
    head = connection.scalar(text("SELECT version_num FROM alembic_version"))
    assert head == description(version)["alembic_head"]
    columns = connection.scalars(
        text("SELECT column_name FROM information_schema.columns WHERE table_name = 'documents'")
    )
    assert sorted(columns) == json.loads(run(version, "-c", COLUMNS))
    run(version, "-m", "alembic", "downgrade", "base", **variables)
    assert connection.scalar(text("SELECT to_regclass('documents')")) is None


@with_database
def test_data_survives_and_old_releases_know_their_place(
    run: Callable[..., str], database: tuple[Connection, dict[str, str]]
) -> None:
    connection, variables = database
    assert "has no schema" in run("1.0.0", "-c", LIST, **variables)
    run("1.0.0", "-m", "alembic", "upgrade", "head", **variables)
    connection.execute(text(INSERT))
    assert "release 1.1.0 needs 0002" in run("1.1.0", "-c", LIST, **variables)

    run("1.1.0", "-m", "alembic", "upgrade", "head", **variables)
    assert run("1.0.0", "-c", LIST, **variables) == run("1.1.0", "-c", LIST, **variables) == "kept\n"

    run("1.2.0", "-m", "alembic", "upgrade", "head", **variables)
    assert run("1.2.0", "-c", LIST, **variables) == run("1.3.0-broken", "-c", LIST, **variables) == "kept\n"
    for older in ("1.0.0", "1.1.0"):
        assert "schema is 0003, which needs a release of schema 0003 or newer" in run(older, "-c", LIST, **variables)

    run("1.2.0", "-m", "alembic", "downgrade", "0002", **variables)
    assert run("1.1.0", "-c", LIST, **variables) == "kept\n"


@with_database
def test_a_migration_does_not_wait_for_the_app(
    run: Callable[..., str], database: tuple[Connection, dict[str, str]]
) -> None:
    connection, variables = database
    run("1.0.0", "-m", "alembic", "upgrade", "head", **variables)
    connection.execute(text("BEGIN"))
    connection.execute(text("LOCK TABLE documents IN ACCESS SHARE MODE"))
    assert "lock timeout" in run("1.1.0", "-m", "alembic", "upgrade", "head", status=1, **variables)
    connection.execute(text("ROLLBACK"))
    assert connection.scalar(text("SELECT version_num FROM alembic_version")) == "0001"

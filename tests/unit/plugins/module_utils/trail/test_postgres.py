# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What of the shared trail needs no server; the rest is in tests/trail/test_postgres.py, with a real one."""

from __future__ import annotations

import pathlib
import sys
import traceback
import typing as t

import pytest

from ansible_collections.flowaudit.ops.plugins.module_utils.errors import FlowauditError
from ansible_collections.flowaudit.ops.plugins.module_utils.trail import home, postgres, sqlite

CANARY = "c4n4ry-p4ssw0rd"


@pytest.fixture(autouse=True)
def nobody_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PGHOST", "PGPORT", "PGUSER", "PGPASSWORD", "PGSERVICE"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("conninfo", "expected"),
    [
        ("", {}),
        ("trail", {"service": "trail"}),
        (" a service ", {"service": "a service"}),
        ("service=trail user=anna", {"service": "trail", "user": "anna"}),
        ("host=db.example.org dbname=trail", {"host": "db.example.org", "dbname": "trail"}),
        (
            f"postgresql://anna:{CANARY}%21@[::1]:5433/trail?sslmode=verify-full",
            {"host": "::1", "password": f"{CANARY}!"},
        ),
        ("host=a connect_timeout=30 application_name=me", {"connect_timeout": "30", "application_name": "me"}),
    ],
)
def test_a_database_is_named_by_string_address_or_service(conninfo: str, expected: dict[str, str]) -> None:
    parameters = postgres._parameters(conninfo)
    assert {name: parameters[name] for name in expected} == expected
    # What nobody says is what notices a server that is gone.
    assert {**postgres._DEFAULTS, **parameters} == parameters


@pytest.mark.parametrize(
    "conninfo",
    [
        f"{CANARY} password=x",
        f"pasword={CANARY}",
        f"password='{CANARY}",
        f"postgresql://anna:{CANARY}%zz@localhost/trail",
        f"postgresql://anna:{CANARY}@[::1/trail",
        f"postgresql://localhost/trail?pasword={CANARY}",
        f"postgresql://localhost/trail?{CANARY}",
    ],
)
def test_a_string_that_cannot_be_read_is_not_shown(conninfo: str) -> None:
    with pytest.raises(FlowauditError, match="connection string of the shared trail has not the form") as error:
        postgres.PostgresLog(conninfo)
    assert CANARY not in "".join(traceback.format_exception(error.value))


@pytest.mark.parametrize(
    ("conninfo", "expected"),
    [
        ("", "The shared trail (local)"),
        ("dbname=trail", "The shared trail (local/trail)"),
        ("trail", "The shared trail (service trail)"),
        ("service=trail host=db", "The shared trail (db)"),
        ("hostaddr=192.0.2.7 port=5433", "The shared trail (192.0.2.7:5433)"),
        (f"postgresql://anna:{CANARY}@db.example.org:5433/trail", "The shared trail (db.example.org:5433/trail)"),
    ],
)
def test_people_are_told_which_database_it_is(conninfo: str, expected: str) -> None:
    assert postgres._where(postgres._parameters(conninfo)) == expected


def test_the_host_may_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGHOST", "db.example.org")
    assert postgres._where(postgres._parameters("trail")) == "The shared trail (db.example.org)"


def test_passwords_are_taken_out_of_what_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    parameters = postgres._parameters("password=first sslpassword=second")
    monkeypatch.setenv("PGPASSWORD", "third")
    assert postgres._scrubbed("a first b\n\tsecond\n c third", parameters) == "a … b … c …"
    monkeypatch.setenv("PGPASSWORD", "")
    assert postgres._scrubbed("as it is", {}) == "as it is"


def test_without_psycopg_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(FlowauditError, match=r"needs psycopg 3 on the control node: pip install 'psycopg\[binary\]'"):
        postgres.PostgresLog("trail")


def test_a_server_that_is_not_there_may_be_there_later(tmp_path: pathlib.Path) -> None:
    with postgres.connected(f"host={tmp_path} dbname=trail password={CANARY}", "a/trail/1") as log:
        assert log.origin == "a/trail/1"
        asked: list[t.Callable[[], t.Any]] = [
            log.size,
            log.origins,
            lambda: list(log.rows()),
            lambda: log.hashes(0, 0, 1),
            log.checkpoints,
            lambda: log.openings(["c:x"]),
            lambda: log.erase(["c:x"]),
            lambda: log.prune(5),
        ]
        for question in asked:
            with pytest.raises(postgres.Unavailable, match=r"^The shared trail \(.*/trail\) cannot be used: ") as error:
                question()
            assert "\n" not in str(error.value)
            assert CANARY not in "".join(traceback.format_exception(error.value))
        assert log.erase([]) == 0
        assert log.prune(0) == 0
        assert list(log.rows(3, 3)) == []


def test_a_log_is_not_shipped_as_another_one(tmp_path: pathlib.Path) -> None:
    local = sqlite.SqliteLog.open_or_create(home.Home(tmp_path / "trail"), "0.2.0", "node")
    with (
        postgres.connected("trail", "other/trail/1") as shared,
        pytest.raises(FlowauditError, match="not other/trail/1"),
    ):
        shared.ship(local)
    local.close()

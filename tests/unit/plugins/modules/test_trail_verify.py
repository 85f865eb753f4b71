# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The trail is proved, or the entry is named that is not as it was; what is not proved is said."""

from __future__ import annotations

import os
import pathlib
import typing as t

import pytest
from ansible.module_utils.basic import AnsibleModule

from ansible_collections.flowaudit.ops.plugins.module_utils.trail import check_evidence, evidence, query
from ansible_collections.flowaudit.ops.plugins.modules import trail_verify
from ansible_collections.flowaudit.ops.tests.unit.plugins import trail_evidence
from ansible_collections.flowaudit.ops.tests.unit.plugins.trail_evidence import RUN_C, RUN_D, Made, moment

Verify = t.Callable[..., dict[str, t.Any]]


@pytest.fixture(scope="session")
def original(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return trail_evidence.make(tmp_path_factory.mktemp("original") / "trail")


@pytest.fixture
def made(original: Made, tmp_path: pathlib.Path) -> Made:
    return original.copy(tmp_path)


@pytest.fixture
def verify(made: Made, run_module: t.Any) -> Verify:
    return lambda **given: run_module(trail_verify.main, **{"directory": str(made.directory), **given})


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The warnings; Ansible says each of them only once in a process."""
    warnings: list[str] = []
    monkeypatch.setattr(AnsibleModule, "warn", lambda _module, text: warnings.append(text))
    return warnings


def test_a_good_log_is_proved(made: Made, verify: Verify, said: list[str]) -> None:
    key = made.first_key()
    result = verify(anchors=[str(made.worm)], trusted_keys=[key], close_dead_runs=False)
    names = ("changed", "trusted", "size", "checkpoints", "anchors", "signed_size", "anchored_size", "unsigned")
    assert {name: result[name] for name in names} == {
        "changed": False,
        "trusted": True,
        "size": 34,
        "checkpoints": 3,
        "anchors": 2,
        "signed_size": 32,
        "anchored_size": 32,
        "unsigned": 2,
    }
    assert (result["archived"], result["pruned"], result["closed_runs"]) == (0, 0, [])
    assert result["keys"][0] == key
    assert len(result["keys"]) == 2
    assert len(bytes.fromhex(result["root"])) == 32
    assert result["open_runs"] == [{"run": RUN_D, "alive": False}]
    assert [run["run"] for run in result["aborted_runs"]] == [RUN_C]
    assert result["aborted_runs"][0]["tasks_in_flight"][0]["host"] == "web01"
    assert result["msg"].endswith("holds: 34 entries, 32 of them signed, 32 anchored.")
    assert result["seconds"] >= 0
    assert said == []


def test_what_is_not_proved_is_said(verify: Verify, said: list[str]) -> None:
    assert verify()["trusted"] is False
    assert said[0].startswith("The key was taken from the trail itself")
    assert said[1].startswith("It was compared with no checkpoint that somebody else keeps")


def test_a_run_that_was_killed_is_closed_first(made: Made, verify: Verify) -> None:
    foretold = verify(_ansible_check_mode=True)
    assert (foretold["changed"], foretold["closed_runs"], foretold["size"]) == (True, [RUN_D], 34)
    result = verify()
    assert (result["changed"], result["closed_runs"], result["size"]) == (True, [RUN_D], 35)
    assert result["open_runs"] == []
    assert [run["run"] for run in result["aborted_runs"]] == [RUN_D, RUN_C]
    assert made.entries()[-1]["type"] == "run.aborted"
    again = verify()
    assert (again["changed"], again["size"]) == (False, 35)


def test_a_log_that_one_may_only_read_is_left_as_it_is(
    made: Made, verify: Verify, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.access
    closed = (str(made.directory), str(made.directory / "trail.sqlite3"))
    monkeypatch.setattr(os, "access", lambda path, mode: str(path) not in closed and real(path, mode))
    before = sorted(path.name for path in made.directory.iterdir())
    result = verify()
    assert (result["changed"], result["size"], result["open_runs"]) == (False, 34, [{"run": RUN_D, "alive": False}])
    assert sorted(path.name for path in made.directory.iterdir()) == before


def test_the_first_wrong_entry_is_named(made: Made, verify: Verify) -> None:
    with made.database() as connection:
        connection.execute("UPDATE entries SET line = replace(line, 'web02', 'web03') WHERE seq = 7")
    result = verify(close_dead_runs=False, anchors=[str(made.worm)], trusted_keys=[made.first_key()])
    assert result["failed"]
    assert (result["first"], result["last"]) == (7, 7)
    assert "does not hold. Entry 7 was altered" in result["msg"]
    assert result["msg"].endswith("The 7 entries before are proved. docs/runbooks/trail_verify.md has what to do.")
    assert result["changed"] is False


def test_a_log_of_another_key_is_named(made: Made, verify: Verify, tmp_path: pathlib.Path) -> None:
    (tmp_path / "other").mkdir()
    other = trail_evidence.make(tmp_path / "other" / "trail")
    result = verify(trusted_keys=[other.first_key()])
    assert result["failed"]
    assert "which is none of those that are trusted. No entry is proved." in result["msg"]
    result = verify(trusted_keys=["nonsense"])
    assert result["msg"].startswith("This is no verifier key")


def test_a_log_that_was_cut_off_is_found_by_an_anchor(made: Made, verify: Verify) -> None:
    with made.database() as connection:
        connection.execute("DELETE FROM entries WHERE seq >= 14")
        connection.execute("DELETE FROM checkpoints WHERE size > 14")
    assert not verify().get("failed")
    result = verify(anchors=[str(made.worm)])
    assert result["failed"]
    assert "The log ends with 14 entries" in result["msg"]


def test_an_index_that_answers_wrongly_is_found(made: Made, verify: Verify) -> None:
    # As one does who wants a failure not to be found: the index is made of other words than the column.
    with made.database() as connection:
        ((sql,),) = connection.execute("SELECT sql FROM sqlite_schema WHERE name = 'entries_failed'").fetchall()
        connection.execute("DROP INDEX entries_failed")
        connection.execute(sql.replace("('failed', 'unreachable')", "('odd', 'odder')"))
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute("UPDATE sqlite_schema SET sql = ? WHERE name = 'entries_failed'", (sql,))
    with made.log() as log:
        assert query.entries(log, query.EntryFilter(failed=True), 9).items == []
    result = verify(close_dead_runs=False)
    assert result["failed"]
    assert "hold, but SQLite finds its file damaged: " in result["msg"]
    assert not verify(close_dead_runs=False, indexes=False).get("failed")


def test_timestamps_beside_the_log_count(made: Made, verify: Verify, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(
        evidence,
        "read_timestamps",
        lambda log, ca: asked.append((log.home.path, ca)) or evidence.read_anchors([str(made.worm)], log.origin),
    )
    assert verify(timestamp_ca="/ca.pem")["anchors"] == 2
    assert asked == [(made.directory, "/ca.pem")]


def test_a_place_without_anchors_is_no_success(verify: Verify, tmp_path: pathlib.Path) -> None:
    (tmp_path / "empty").mkdir()
    result = verify(anchors=[str(tmp_path / "empty")])
    assert result["failed"]
    assert "holds no checkpoint of the log" in result["msg"]


FILE = f"{0:08x}-{0:012d}-{9:012d}.jsonl.gz"


def test_pruned_and_archived_entries_are_counted(made: Made, verify: Verify) -> None:
    for first, last in ((1, 3), (4, 9)):
        made.append({"type": "archived", "ts": moment(50), "first": first, "last": last, "file": FILE, "sha256": "x"})
    made.append({"type": "pruned", "ts": moment(50), "first": 1, "last": 3})
    with made.database() as connection:
        connection.execute("UPDATE entries SET line = NULL WHERE seq BETWEEN 1 AND 9")
    result = verify(close_dead_runs=False)
    assert (result["archived"], result["pruned"]) == (6, 3)
    result = verify(close_dead_runs=False, archive_directory="/nowhere")
    assert result["msg"].startswith(f"The archive /nowhere/{FILE} cannot be read")


def test_there_has_to_be_a_log(verify: Verify, tmp_path: pathlib.Path) -> None:
    assert verify(directory=str(tmp_path / "none"))["msg"].startswith("There is no trail in")


# ── Evidence ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def packages(made: Made, tmp_path: pathlib.Path) -> dict[str, pathlib.Path]:
    places = {"whole": evidence.Selection(), "part": evidence.Selection(change_id="CHG-1")}
    for name, selection in places.items():
        (tmp_path / name).mkdir()
        with made.log() as log:
            kept = evidence.read_anchors([str(made.worm)], log.origin)
            evidence.write(log, tmp_path / name, evidence.Wishes(selection), kept)
    return {name: tmp_path / name for name in places}


def test_a_package_is_verified_too(
    packages: dict[str, pathlib.Path], verify: Verify, made: Made, said: list[str]
) -> None:
    result = verify(evidence=str(packages["whole"]), trusted_keys=[made.first_key()])
    names = ("changed", "size", "trusted", "anchors", "anchored_size", "signed_size", "unsigned", "pruned")
    assert [result[name] for name in names] == [False, 32, True, 2, 32, 32, 0, 0]
    assert result["msg"].startswith("OK: this is the whole log node/trail/")
    assert "open_runs" not in result
    result = verify(evidence=str(packages["part"]))
    assert "That no other entry fits the selection is not proved by this." in result["msg"]
    assert [warning.split(";")[0] for warning in said] == ["The key was taken from the trail itself"]


def test_a_package_that_was_altered_fails(packages: dict[str, pathlib.Path], verify: Verify) -> None:
    (packages["whole"] / "README.md").write_text("x")
    result = verify(evidence=str(packages["whole"]))
    assert result["failed"]
    assert result["msg"].endswith(
        "whole does not hold: README.md was altered: it has not the SHA-256 that SHA256SUMS says."
    )


def test_a_package_that_cannot_be_verified_fails(
    packages: dict[str, pathlib.Path], verify: Verify, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_arguments: object) -> t.NoReturn:
        raise check_evidence.CannotCheck("openssl is too old.")

    monkeypatch.setattr(check_evidence, "check", fail)
    assert verify(evidence=str(packages["whole"]))["msg"].endswith("cannot be verified: openssl is too old.")

# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A package appears when it is whole and holds, or not at all."""

from __future__ import annotations

import pathlib
import tarfile
import typing as t

import pytest

from ansible_collections.flowaudit.ops.plugins.module_utils.trail import check_evidence, evidence
from ansible_collections.flowaudit.ops.plugins.modules import trail_export
from ansible_collections.flowaudit.ops.tests.unit.plugins import trail_evidence
from ansible_collections.flowaudit.ops.tests.unit.plugins.trail_evidence import RUN_A, Made, moment

Export = t.Callable[..., dict[str, t.Any]]


@pytest.fixture(scope="session")
def original(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return trail_evidence.make(tmp_path_factory.mktemp("original") / "trail")


@pytest.fixture
def made(original: Made, tmp_path: pathlib.Path) -> Made:
    return original.copy(tmp_path)


@pytest.fixture
def dest(tmp_path: pathlib.Path) -> pathlib.Path:
    (tmp_path / "out").mkdir()
    return tmp_path / "out/package"


@pytest.fixture
def export(made: Made, dest: pathlib.Path, run_module: t.Any, tmp_path: pathlib.Path) -> Export:
    (tmp_path / "tmp").mkdir()
    given = {"directory": str(made.directory), "dest": str(dest), "_ansible_tmpdir": str(tmp_path / "tmp")}
    return lambda **more: run_module(trail_export.main, **{**given, **more})


def check(directory: pathlib.Path) -> dict[str, t.Any]:
    return check_evidence.check(str(directory), signed=evidence.is_signed)


def alone(dest: pathlib.Path) -> bool:
    """Whether nothing else was left where the package is."""
    return [path.name for path in dest.parent.iterdir()] == [dest.name]


def test_the_log_is_signed_and_written(made: Made, export: Export, dest: pathlib.Path) -> None:
    result = export(anchors=[str(made.worm)], trusted_keys=[made.first_key()])
    assert {name: result[name] for name in ("changed", "size", "entries", "anchors", "openings", "unsigned")} == {
        "changed": True,
        "size": 34,
        "entries": 34,
        "anchors": 2,
        "openings": 0,
        "unsigned": 0,
    }
    assert result["package"] == str(dest)
    assert check(dest)["size"] == 34
    assert alone(dest)
    again = export(anchors=[str(made.worm)])
    assert (again["changed"], again["root"]) == (False, result["root"])


def test_without_a_signature_the_newest_checkpoint_counts(made: Made, export: Export, dest: pathlib.Path) -> None:
    (made.directory / "signing.key").unlink()
    assert "signing key" in export()["msg"]
    assert not dest.exists()
    result = export(sign=False)
    assert (result["size"], result["unsigned"]) == (32, 2)


def test_a_part_is_written_on_request(made: Made, export: Export, dest: pathlib.Path) -> None:
    result = export(run=RUN_A, openings=True, since="2026-03-01", until="2026-03-01T10:00:06", first=2, last=20)
    assert (result["entries"], result["openings"]) == (7, 1)
    proved = check(dest)
    assert proved["selection"] == {
        "run": RUN_A,
        "since": moment(0).replace("10:00", "00:00"),
        "until": moment(0, 6),
        "first": 2,
        "last": 20,
    }


@pytest.mark.parametrize("name", ["package.tar.gz", "package.tgz"])
def test_one_file_is_written_on_request(export: Export, dest: pathlib.Path, tmp_path: pathlib.Path, name: str) -> None:
    dest = dest.with_name(name)
    assert export(dest=str(dest))["changed"]
    assert alone(dest)
    with tarfile.open(dest) as packed:
        packed.extractall(tmp_path / "unpacked", filter="data")
    assert check(tmp_path / "unpacked/flowaudit-evidence")["whole"]
    assert not export(dest=str(dest))["changed"]


def test_another_package_is_replaced_only_when_told_to(made: Made, export: Export, dest: pathlib.Path) -> None:
    export(change_id="CHG-1")
    before = check(dest)
    result = export()
    assert result["msg"] == f"{dest} is there already and holds something else; name another one, or force."
    assert check(dest) == before
    assert export(force=True)["changed"]
    assert check(dest)["whole"]
    assert alone(dest)


def test_check_mode_says_what_would_be_done(made: Made, export: Export, dest: pathlib.Path) -> None:
    before = made.checkpoints()
    assert export(_ansible_check_mode=True)["changed"]
    assert not dest.exists()
    export()
    assert not export(_ansible_check_mode=True)["changed"]
    assert export(_ansible_check_mode=True, change_id="CHG-1")["changed"]
    made.append({"type": "event", "ts": moment(50)})
    assert export(_ansible_check_mode=True)["changed"]
    assert len(made.checkpoints()) == len(before) + 1
    assert check(dest)["whole"]
    assert alone(dest)


def test_what_does_not_hold_is_neither_signed_nor_exported(made: Made, export: Export, dest: pathlib.Path) -> None:
    with made.database() as connection:
        connection.execute("UPDATE entries SET line = replace(line, 'web02', 'web03') WHERE seq = 7")
    before = made.checkpoints()
    result = export()
    assert "does not hold, so nothing was exported. Entry 7 was altered" in result["msg"]
    assert made.checkpoints() == before
    assert not dest.exists()


def test_entries_are_not_selected_through_a_damaged_index(
    export: Export, dest: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trail_export.SqliteLog, "damage", lambda _log: "row 7 missing from index entries_run")
    assert "damaged: row 7 missing from index entries_run." in export(run=RUN_A)["msg"]
    assert not dest.exists()
    assert export()["changed"]  # the whole log needs no index


@pytest.mark.parametrize("error", [check_evidence.Wrong("It is odd."), check_evidence.CannotCheck("It is odd.")])
def test_a_package_that_would_not_hold_is_not_handed_out(
    export: Export, dest: pathlib.Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(*_arguments: object, **_more: object) -> t.NoReturn:
        raise error

    monkeypatch.setattr(check_evidence, "check", fail)
    assert export()["msg"] == "The package would not hold, so nothing was exported: It is odd."
    assert list(dest.parent.iterdir()) == []


def test_what_is_wrong_is_said_in_a_sentence(export: Export, dest: pathlib.Path) -> None:
    missing = dest.parent / "none/package"
    assert (
        export(dest=str(missing))["msg"] == f"There is no directory {missing.parent} to write the evidence to; make it."
    )
    assert "No entry of the trail in" in export(run="none")["msg"]
    assert export(since="soon")["msg"].startswith("'soon' is no point in time")
    assert list(dest.parent.iterdir()) == []

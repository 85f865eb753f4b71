# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The modules of backups: arguments in, a result out, and nothing done in check mode."""

from __future__ import annotations

import dataclasses
import functools
import json
import pathlib
import typing as t
from collections.abc import Callable

import pytest

from ansible_collections.flowaudit.ops.plugins.module_utils.backup import program, recovery
from ansible_collections.flowaudit.ops.plugins.module_utils.backup.jobs import Jobs
from ansible_collections.flowaudit.ops.plugins.modules import (
    backup,
    backup_info,
    backup_line,
    backup_repositories,
    restore_database,
    restore_files,
)
from ansible_collections.flowaudit.ops.tests.unit.plugins.backup_host import Host, fake_host

Run = Callable[..., dict[str, t.Any]]
MODULES = (backup, backup_info, backup_line, backup_repositories, restore_database, restore_files)


@pytest.fixture
def host(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    return fake_host(tmp_path, monkeypatch)


@pytest.fixture
def module(
    host: Host,
    run_module: t.Any,
    monkeypatch: pytest.MonkeyPatch,
) -> Run:
    """Run a module on the made-up host."""
    file = host.directory / "settings.json"
    file.write_text(json.dumps(dataclasses.asdict(host.settings())))
    monkeypatch.setattr(recovery.os, "chown", lambda path, user, group: None)
    for each in MODULES:
        monkeypatch.setattr(each, "run_program", host.run)
        monkeypatch.setattr(each, "Jobs", functools.partial(Jobs, clock=lambda: host.clock))

    def run(which: t.Any, **arguments: t.Any) -> dict[str, t.Any]:
        return t.cast(
            "dict[str, t.Any]",
            run_module(which.main, settings=str(file), **{"_ansible_tmpdir": str(host.directory), **arguments}),
        )

    return run


def test_backups_are_taken_and_told(module: Run, host: Host) -> None:
    foreseen = module(backup, jobs=["uploads"], _ansible_check_mode=True)
    assert (foreseen["changed"], foreseen["ran"], host.snapshots["uploads"]) == (True, ["uploads"], [])
    done = module(backup, jobs=["base", "uploads"])
    assert done["changed"] and done["jobs"]["uploads"]["details"]["files"] == 1
    assert module(backup, jobs=["base"], only_overdue=True)["changed"] is False
    told = module(backup_info)
    assert told["jobs"]["base"]["succeeded_at"] and "wal" in told["overdue"] and not told["changed"]
    host.broken = {"restic": "unreachable"}
    failed = module(backup, jobs=["uploads", "config"])
    assert failed["failed"] and failed["msg"].count("unreachable") == 2
    assert "There is no job odd here" in module(backup, jobs=["odd"])["msg"]


def test_a_password_is_in_a_file_for_the_drill_only(module: Run, host: Host) -> None:
    module(backup, jobs=["base", "wal", "chroma", "uploads", "config"])
    done = module(backup, jobs=["drill"], password="from the safe")
    assert done["jobs"]["drill"]["details"]["key"] == "recovery"
    asked = [text for text in host.ran if text.startswith("restic") and " restore " in text]
    used = {text.split("--password-file ")[1].split()[0] for text in asked}
    assert len(used) == 1 and not pathlib.Path(used.pop()).exists()


def test_the_log_is_followed(module: Run, host: Host) -> None:
    assert module(backup_line)["changed"] is False
    host.slot = ("lost", False)
    before = host.jobs().stream.name()
    foreseen = module(backup_line, _ansible_check_mode=True)
    assert foreseen["changed"] and host.jobs().stream.name() == before
    host.passes(60)
    done = module(backup_line)
    assert done["changed"] and "given up the replication slot" in done["reason"]
    host.server = False
    assert "does not answer" in module(backup_line)["msg"]


def test_repositories_are_made_and_opened_for_others(
    module: Run,
    host: Host,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    known: dict[str, list[str]] = {"uploads": ["root"]}
    asked = backup_repositories.Repository.key_names
    monkeypatch.setattr(backup_repositories.Repository, "key_names", lambda self: known.get(self.name))
    foreseen = module(backup_repositories, _ansible_check_mode=True)
    assert foreseen["created"] == ["postgres on nas", "chroma on nas", "config on nas"]
    assert not any(" init" in text for text in host.ran)
    done = module(backup_repositories)
    assert done["created"] == foreseen["created"] and "prune to uploads on nas" in done["keys_added"]
    assert sum(text.endswith(" init") for text in host.ran) == 3
    known |= {name: ["root", "prune"] for name in host.snapshots}
    assert module(backup_repositories)["changed"] is False
    monkeypatch.setattr(backup_repositories.Repository, "key_names", asked)
    host.broken = {"key list": "unreachable"}
    assert "unreachable" in module(backup_repositories)["msg"]


def test_the_database_is_restored_and_confirmed(module: Run, host: Host) -> None:
    assert "nothing can be restored" in module(restore_database, time="latest")["msg"]
    module(backup, jobs=["base", "wal"])
    foreseen = module(restore_database, time="latest", _ansible_check_mode=True)
    assert foreseen["changed"], foreseen
    host.passes(60)
    done = module(restore_database, time="latest")
    assert done["changed"] and done["volume"] == host.volume and done["recovered"]["heartbeat"].endswith("Z")
    assert module(restore_database, state="confirmed", _ansible_check_mode=True)["removed"] == ["flowaudit_pgdata_1"]
    assert module(restore_database, state="confirmed")["removed"] == ["flowaudit_pgdata_1"]
    assert module(restore_database, state="confirmed")["changed"] is False
    assert module(restore_database)["msg"] == "state is restored but all of the following are missing: time"


def test_files_and_vectors_are_brought_back(module: Run, host: Host) -> None:
    module(backup, jobs=["uploads", "chroma"])
    done = module(restore_files, path=f"{host.directory}/uploads", exact=True)
    assert done["changed"] and done["files"] == ["a"] and done["removed"] == ["b"]
    (host.directory / "chroma.next").mkdir()
    assert module(restore_files, vectors=True)["vectors"] == {"default_database/documents": 5}
    assert module(restore_files)["msg"] == "Give either path or vectors=true."
    assert "is not among what is saved" in module(restore_files, path="/etc/shadow")["msg"]


def test_a_host_without_settings_says_so(run_module: t.Any, tmp_path: pathlib.Path) -> None:
    arguments: dict[t.Any, dict[str, t.Any]] = {restore_database: {"time": "latest"}, restore_files: {"path": "/x"}}
    for each in MODULES:
        result = run_module(each.main, settings=str(tmp_path / "none"), **arguments.get(each, {}))
        assert "this host has no backups" in result["msg"]


def test_the_command_on_the_host(
    host: Host,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file = host.directory / "settings.json"
    file.write_text(json.dumps(dataclasses.asdict(host.settings(due={"uploads": 3600, "config": 3600}))))
    monkeypatch.setattr(program, "run", host.run)

    def call(*words: str) -> int:
        return program.main(["--settings", str(file), *words])

    assert call("status") == 1
    assert json.loads(capsys.readouterr().out)["overdue"] == ["uploads", "config"]
    assert call("run", "uploads", "config") == 0
    assert call("tick") == 0
    assert call("resume", "chroma") == 0
    host.broken = {"restic": "unreachable"}
    assert call("run", "uploads") == 1
    assert "uploads: The repository uploads on nas did not take the backup: unreachable" in capsys.readouterr().err
    assert call("failed", "uploads") == 0
    assert call("run", "odd") == 1
    file.unlink()
    assert call("tick") == 1

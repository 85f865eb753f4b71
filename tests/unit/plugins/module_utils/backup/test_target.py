# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The machine that keeps backups: what it serves, what it forgets, when it closes."""

from __future__ import annotations

import json
import os
import pathlib
import typing as t

import pytest

from ansible_collections.flowaudit.ops.plugins.module_utils import webhook
from ansible_collections.flowaudit.ops.plugins.module_utils.backup import target
from ansible_collections.flowaudit.ops.plugins.module_utils.backup.target import Arrival
from ansible_collections.flowaudit.ops.plugins.module_utils.errors import FlowauditError

DAY = 86400.0


@pytest.fixture
def place(tmp_path: pathlib.Path) -> pathlib.Path:
    values = {
        "directory": str(tmp_path / "srv"),
        "user": "keeper",
        "keep_days": {"postgres": 30, "uploads": 0},
        "removed_days": 14,
        "quotas": {"nuc1": 0},
        "free": 0,
    }
    (tmp_path / "target.json").write_text(json.dumps(values))
    for name in ("postgres", "uploads"):
        for directory in ("data/00", "snapshots", "locks"):
            (tmp_path / "srv" / "nuc1" / name / directory).mkdir(parents=True)
    return tmp_path


def call(place: pathlib.Path, *words: str) -> int:
    return target.main(["--settings", str(place / "target.json"), *words])


def change(place: pathlib.Path, **more: t.Any) -> None:
    file = place / "target.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **more}))


@pytest.mark.parametrize(
    "asked", ["serve restic --stdio postgres", "serve restic --stdio --b2-hard-delete nas/postgres"]
)
def test_a_key_reads_and_adds_to_one_repository(
    place: pathlib.Path, monkeypatch: pytest.MonkeyPatch, asked: str
) -> None:
    became: list[t.Any] = []
    monkeypatch.setenv("SSH_ORIGINAL_COMMAND", asked)
    monkeypatch.setattr(target.os, "execvp", lambda *words: became.append(words))
    assert call(place, "serve", "nuc1") == 0
    served = str(place / "srv/nuc1/postgres")
    assert became == [("rclone", ["rclone", "serve", "restic", "--stdio", "--append-only", served])]


@pytest.mark.parametrize(
    "asked",
    [
        *("", "sh", "serve restic --stdio", "serve restic --stdio ../nuc2/postgres", "serve restic --stdio secrets"),
        *("serve restic --stdio postgres; rm -rf /", "rclone serve restic --stdio postgres", "serve restic postgres"),
        *("serve restic --stdio a/b/postgres", "serve restic --stdio postgres\nid", "serve sftp --stdio postgres"),
    ],
)
def test_a_key_does_nothing_else(
    place: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], asked: str
) -> None:
    monkeypatch.setenv("SSH_ORIGINAL_COMMAND", asked)
    monkeypatch.setattr(target.os, "execvp", lambda *words: pytest.fail(str(words)))
    assert call(place, "serve", "nuc1") == 1
    assert "nothing else" in capsys.readouterr().err


def arrivals(kind: str, *days: float) -> list[Arrival]:
    return [Arrival(f"{kind}{day:g}", kind, -day * DAY) for day in days]


def test_what_was_kept_long_enough_goes_by_kind() -> None:
    found = [*arrivals("base", 0, 10, 31, 29.9), *arrivals("wal", 40, 41, 60, 70.5)]
    # Nothing of the log has come for 40 days, so its thirty days are counted from then.
    assert target.outdated(found, 30) == ["base31", "wal70.5"]


def test_where_nothing_comes_nothing_goes() -> None:
    assert target.outdated(arrivals("base", 100, 110, 120), 30) == []
    assert target.outdated([], 30) == []


def test_a_clock_that_was_wrong_empties_nothing() -> None:
    found = [*arrivals("base", 1, 2, 3), Arrival("future", "base", 3650 * DAY)]
    with pytest.raises(FlowauditError, match="3 of 4 snapshots of the kind base would go at once"):
        target.outdated(found, 30)


def test_pruning_asks_restic_and_counts_by_this_machine(
    place: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    repository = place / "srv/nuc1/postgres"
    (repository / "config").write_text("")
    for name, day in (("a", 40), ("b", 20), ("c", 0)):
        (repository / "snapshots" / name).write_text("")
        os.utime(repository / "snapshots" / name, (1e9 - day * DAY, 1e9 - day * DAY))
    called: list[list[str]] = []
    (place / "prune").mkdir()
    (place / "prune" / "nuc1").write_text("secret\n")
    monkeypatch.setattr(target, "PASSWORDS", str(place / "prune"))

    def run(words: list[str], **more: t.Any) -> t.Any:
        called.append(words)
        assert (more["user"], more["env"]["RESTIC_PASSWORD"]) == ("keeper", "secret")
        # What a snapshot says of its time is of no account.
        told = [{"id": name, "time": "2099-01-01T00:00:00Z", "tags": ["base"]} for name in "abc"]
        return target.subprocess.CompletedProcess(words, 0, json.dumps(told), "")

    monkeypatch.setattr(target.subprocess, "run", run)
    assert call(place, "prune", "nuc1") == 0
    assert called[-1][-3:] == ["forget", "--prune", "a"]
    assert "nuc1/postgres: 1 snapshots" in capsys.readouterr().out

    monkeypatch.setattr(
        target.subprocess,
        "run",
        lambda words, **_: target.subprocess.CompletedProcess(words, 12, "", "Fatal: wrong password"),
    )
    assert call(place, "prune", "nuc1") == 1
    assert "nuc1/postgres: Fatal: wrong password" in capsys.readouterr().err


def test_what_pruning_removes_goes_when_nothing_is_missing_without_it(
    place: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    repository, removed = place / "srv/nuc1/postgres", place / "srv/nuc1/.removed/postgres"
    for name in ("config", "data/00/superfluous", "data/00/needed"):
        (repository / name).write_text(name)
    for name, day in (("a", 40), ("b", 20), ("c", 0)):
        (repository / "snapshots" / name).write_text("")
        os.utime(repository / "snapshots" / name, (1e9 - day * DAY, 1e9 - day * DAY))
    (place / "prune").mkdir()
    (place / "prune" / "nuc1").write_text("secret\n")
    monkeypatch.setattr(target, "PASSWORDS", str(place / "prune"))
    status = {"check": 0}

    def run(words: list[str], **_more: t.Any) -> t.Any:
        told = [{"id": path.name, "tags": ["base"]} for path in sorted((repository / "snapshots").iterdir())]
        if "forget" in words:
            (repository / "snapshots/a").unlink()
            (repository / "data/00/superfluous").unlink()
        code = status["check"] if "check" in words else 0
        return target.subprocess.CompletedProcess(
            words, code, json.dumps(told), "Fatal: pack is missing" if code else ""
        )

    monkeypatch.setattr(target.subprocess, "run", run)
    assert call(place, "prune", "nuc1") == 0
    (kept,) = removed.iterdir()
    assert sorted(str(path.relative_to(kept)) for path in kept.rglob("*") if path.is_file()) == [
        "data/00/superfluous",
        "snapshots/a",
    ]
    assert (kept / "data/00/superfluous").read_text() == "data/00/superfluous"
    assert (removed.stat().st_mode & 0o777, (repository / "data/00/needed").exists()) == (0o700, True)

    # A run that was killed left a link to everything.
    left = removed / "20991231T000000Z/data/00"
    left.mkdir(parents=True)
    os.link(repository / "data/00/needed", left / "needed")
    assert call(place, "prune", "nuc1") == 0
    assert list(removed.iterdir()) == [kept]

    # Two weeks and a month later
    kept.rename(removed / "20200101T000000Z")
    status["check"] = 1
    assert call(place, "prune", "nuc1") == 1
    assert "nuc1/postgres: Fatal: pack is missing" in capsys.readouterr().err and list(removed.iterdir())
    status["check"] = 0
    assert call(place, "prune", "nuc1") == 0
    assert list(removed.iterdir()) == []


def test_what_came_since_an_intrusion_is_forgotten_by_hand(
    place: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    repository = place / "srv/nuc1/postgres"
    (repository / "config").write_text("")
    for name, day in (("a1", 2), ("b2", 1), ("c3", 0)):
        (repository / "snapshots" / name).write_text("")
        os.utime(repository / "snapshots" / name, (1e9 - day * DAY, 1e9 - day * DAY))
    (place / "prune").mkdir()
    (place / "prune" / "nuc1").write_text("secret\n")
    monkeypatch.setattr(target, "PASSWORDS", str(place / "prune"))
    called: list[list[str]] = []

    def run(words: list[str], **_more: t.Any) -> t.Any:
        called.append(words)
        # Whatever they say of their time themselves.
        told = [{"id": name, "time": "1999-01-01T00:00:00Z", "tags": ["base"]} for name in ("a1", "b2", "c3")]
        return target.subprocess.CompletedProcess(words, 0, json.dumps(told), "")

    monkeypatch.setattr(target.subprocess, "run", run)
    kept: list[t.Any] = []
    monkeypatch.setattr(target.shutil, "copytree", lambda *places, **_more: kept.append(places))
    # A day and a half before 2001-09-09T01:46:40Z
    assert call(place, "forget", "nuc1", "--since", "2001-09-07T13:46:40Z") == 0
    assert called[-1][-4:] == ["forget", "--prune", "b2", "c3"]
    assert "nuc1/postgres: base b2 is gone" in capsys.readouterr().out
    assert call(place, "forget", "nuc1", "--id", "a") == 0
    assert called[-1][-3:] == ["forget", "--prune", "a1"]
    assert len(kept) == 2
    assert call(place, "forget", "nuc1", "--id", "a", "--at-once") == 0
    assert (called[-1][-1], len(kept)) == ("a1", 2)
    before = len(called)
    assert call(place, "forget", "nuc1", "--since", "2001-01-01T00:00:00Z") == 1
    assert "nothing of the kind base left" in capsys.readouterr().err
    assert call(place, "forget", "nuc1", "--id", "f") == 0
    assert not any("forget" in words for words in called[before:])
    with pytest.raises(SystemExit):
        call(place, "forget", "nuc1", "--since", "2001-09-07T13:46:40")


def test_without_a_password_nothing_is_pruned(place: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(place, "prune", "nuc1") == 1
    assert "no password to prune nuc1 with" in capsys.readouterr().err


def writable(place: pathlib.Path, name: str) -> bool:
    return bool((place / "srv/nuc1/postgres" / name).stat().st_mode & 0o200)


def test_a_system_beyond_its_quota_can_be_read_and_not_added_to(
    place: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    told: list[str] = []
    monkeypatch.setattr(webhook, "post", lambda url, values, option: told.append(f"{url} {values['text']}"))
    assert call(place, "watch") == 0
    (place / "srv/nuc1/postgres/data/00/pack").write_bytes(b"x" * 100_000)
    change(place, quotas={"nuc1": 50_000}, alarm_url="https://chat.example.org/x")
    assert call(place, "watch") == 1
    assert "nuc1 has 0.0 GB of backups" in capsys.readouterr().err
    assert told and told[0].startswith("https://chat.example.org/x nuc1 has")
    assert [writable(place, name) for name in ("data", "data/00", "snapshots", "locks")] == [False, False, False, True]
    change(place, quotas={"nuc1": 500_000})
    assert call(place, "watch") == 0
    assert all(writable(place, name) for name in ("data", "data/00", "snapshots", "locks"))


def test_too_little_space_is_told(place: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    change(place, free=10**18)
    assert call(place, "watch") == 1
    assert "GB are wanted" in capsys.readouterr().err


@pytest.mark.parametrize("wrong", ["", "{}", "[]", '{"directory": "/", "odd": 1}'])
def test_settings_that_are_none_are_refused(
    place: pathlib.Path, capsys: pytest.CaptureFixture[str], wrong: str
) -> None:
    (place / "target.json").write_text(wrong)
    assert call(place, "watch") == 1
    assert "the role backup_target" in capsys.readouterr().err

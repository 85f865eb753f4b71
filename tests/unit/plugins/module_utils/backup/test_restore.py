# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Restores: the database to a moment, files and vectors; what a failure or a kill at any step leaves serving."""

from __future__ import annotations

import os
import pathlib
import typing as t

import pytest

from ansible_collections.flowaudit.ops.plugins.module_utils.backup import bring_back, recovery, restore, wal
from ansible_collections.flowaudit.ops.plugins.module_utils.backup.jobs import Jobs
from ansible_collections.flowaudit.ops.plugins.module_utils.backup.restore import Restore
from ansible_collections.flowaudit.ops.plugins.module_utils.engine import Result
from ansible_collections.flowaudit.ops.plugins.module_utils.errors import FlowauditError
from ansible_collections.flowaudit.ops.tests.unit.plugins.backup_host import SEGMENT, Host, Killed

OLD = "flowaudit_pgdata_1"


@pytest.fixture
def saved(host: Host, monkeypatch: pytest.MonkeyPatch) -> Host:
    """A host whose database has been saved an hour ago."""
    monkeypatch.setattr(recovery.os, "chown", lambda path, user, group: None)
    jobs = host.jobs()
    assert jobs.run_all(["base", "wal", "chroma", "uploads", "config"]) == []
    host.passes(3600)
    return host


def make(host: Host, text: str = "latest", **more: t.Any) -> restore.Outcome:
    wanted: dict[str, t.Any] = {"actor": "ada", "from_target": False, "accept_differences": False, **more}
    return Restore(host.jobs(), host.run).make(text, **wanted)


def serves(host: Host) -> str:
    """The volume that serves users, empty when they meet something else."""
    switch = (host.directory / "switch" / "switch.yml").read_text()
    database = "db" in host.running[f"{host.directory}/stack.yaml"]
    clients = {"backend", "worker"} <= host.running[str(host.blue)]
    return host.volume if database and clients and "maintenance" not in switch else ""


def test_the_database_comes_back_in_a_volume_of_its_own(saved: Host) -> None:
    line = saved.jobs().stream.name()
    outcome = make(saved)
    assert (outcome.volume, outcome.previous_volume) == ("flowaudit_pgdata_20260131T130000Z", OLD)
    assert outcome.recovered is not None and outcome.recovered.sources == {"base": "host", "log": "host"}
    assert outcome.state_before == "before-restore-20260131T130000Z"
    assert serves(saved) == outcome.volume
    assert (saved.directory / "database_volume").read_text() == f"{outcome.volume}\n"
    jobs = saved.jobs()
    assert jobs.stream.name() != line and [each["stream"] for each in jobs.bases()] == [jobs.stream.name()]
    assert any("worker restored database" in text for text in saved.ran)
    # The old one stays until it is confirmed.
    assert OLD in saved.volumes
    assert Restore(jobs, saved.run).confirm() == [OLD]
    assert saved.volumes == {outcome.volume}
    assert Restore(jobs, saved.run).confirm() == []


def test_from_the_target_alone_nothing_of_the_host_is_needed(saved: Host) -> None:
    outcome = make(saved, from_target=True)
    assert outcome.recovered is not None and outcome.recovered.sources == {"base": "nas", "log": "nas"}


@pytest.mark.parametrize(
    ("text", "option"),
    [
        ("2026-01-31T12:30:00Z", "recovery_target_time=2026-01-31 12:30:00+00:00"),
        ("pre-1.2.0-20260131T122000Z", "recovery_target_name=pre-1.2.0-20260131T122000Z"),
    ],
)
def test_a_moment_is_what_the_server_stops_at(saved: Host, text: str, option: str) -> None:
    make(saved, text)
    assert any(option in ran for ran in saved.ran)


def ended() -> list[Result]:
    return [Result(0, "false", ""), Result(0, "true", "")]


def test_when_nothing_came_after_the_moment_the_end_is_that_moment(
    saved: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    fatal = "FATAL:  recovery ended before configured recovery target was reached"
    run = saved.run
    saved.recovery_says = ended()

    def logs(command: t.Any, seconds: float, environment: t.Any) -> Result:
        return Result(0, "", fatal) if list(command[:2]) == ["docker", "logs"] else run(command, seconds, environment)

    wanted: dict[str, t.Any] = {"actor": "", "from_target": False, "accept_differences": False}
    outcome = Restore(saved.jobs(), logs).make("2026-01-31T12:59:00Z", **wanted)
    starts = [text for text in saved.ran if "--detach" in text]
    assert ["recovery_target_time" in text for text in starts if "postgres -c" in text] == [True, False]
    assert serves(saved) == outcome.volume
    saved.recovery_says = ended()
    saved.passes(60)
    with pytest.raises(FlowauditError, match="The log ends before pre-9"):
        Restore(saved.jobs(), logs).make("pre-9-20260131T130030Z", **wanted)
    assert serves(saved) == outcome.volume


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        ("docker volume create", "The new volume could not be made"),
        ("pg_verifybackup --quiet /var", "The base backup is damaged"),
        ("pg_amcheck", "The recovered database is damaged"),
        ("pg_checksums", "The recovered database is damaged"),
        ("--detach --network none", "could not be started"),
    ],
)
def test_what_cannot_be_recovered_changes_nothing(saved: Host, broken: str, said: str) -> None:
    saved.broken = {broken: "broken"}
    with pytest.raises(FlowauditError, match=said):
        make(saved)
    assert serves(saved) == OLD and saved.volumes == {OLD}
    saved.broken = {}
    saved.passes(1)
    assert serves(saved) == OLD
    assert make(saved).volume == serves(saved)


def test_without_room_nothing_begins(saved: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recovery.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 20}))
    with pytest.raises(FlowauditError, match=r"has 0\.0 GB left, the restore needs 0\.0; make room first"):
        make(saved)
    assert serves(saved) == OLD and saved.volumes == {OLD}


def test_on_a_bare_host_no_application_is_started(saved: Host) -> None:
    saved.running[str(saved.blue)] = set()
    make(saved, from_target=True)
    assert saved.running[str(saved.blue)] == set() and not any("restored database" in text for text in saved.ran)


@pytest.mark.parametrize("broken", ["cp --archive", "pg_verifybackup --quiet /var"])
def test_a_damaged_base_backup_on_the_host_is_not_the_only_one(saved: Host, broken: str) -> None:
    run, failed = saved.run, []

    def once(command: t.Sequence[str], *more: t.Any) -> Result:
        if broken in " ".join(command) and not failed:
            failed.append(command)
            return Result(1, "", "a checksum differs")
        return run(command, *more)

    outcome = Restore(saved.jobs(), once).make("latest", actor="ada", from_target=False, accept_differences=False)
    assert outcome.recovered is not None and outcome.recovered.sources == {"base": "nas", "log": "host"}
    assert "a checksum differs" in outcome.recovered.warnings[0]
    assert serves(saved) == outcome.volume


def test_a_target_that_does_not_take_the_state_that_is_left_stops_it(saved: Host) -> None:
    saved.broken = {" backup --json": "unreachable"}
    with pytest.raises(FlowauditError, match="unreachable"):
        make(saved)
    assert serves(saved) == OLD


def test_a_server_that_does_not_come_up_on_the_new_volume_comes_up_on_the_old_one(saved: Host) -> None:
    run, tries = saved.run, []

    def first_fails(command: t.Any, seconds: float, environment: t.Any) -> Result:
        if "--force-recreate" in command:
            tries.append(command)
            if len(tries) == 1:
                return Result(1, "", "unhealthy")
        return run(command, seconds, environment)

    saved.run = first_fails  # type: ignore[method-assign]
    with pytest.raises(FlowauditError, match=f"unhealthy; {OLD} serves as before"):
        make(saved)
    assert serves(saved) == OLD and saved.volumes == {OLD}


def test_tables_that_lost_their_rows_are_not_put_in_the_place_of_those_that_have_them(saved: Host) -> None:
    saved.rows = {"public.documents": 0}
    with pytest.raises(FlowauditError, match=r"no rows in public.documents.*accept_differences"):
        make(saved)
    assert serves(saved) == OLD and saved.volumes == {OLD}
    outcome = make(saved, accept_differences=True)
    assert serves(saved) == outcome.volume != OLD


KILLS = (
    "restic --repo rclone:nas/postgres",
    "docker volume create",
    "cp --archive",
    "--detach --network none",
    "pg_amcheck",
    "pg_checksums",
    "stop --timeout 1 backend",
    "stop --timeout 120 db",
    "--force-recreate db",
    "pg_drop_replication_slot",
    "--force-recreate receiver",
    "worker restored database",
    "pg_basebackup",
)


@pytest.mark.parametrize("at", KILLS)
def test_killed_anywhere_one_of_the_two_serves_and_the_next_run_goes_on(saved: Host, at: str) -> None:
    saved.killed = at
    first = Restore(saved.jobs(), saved.run)
    start = first._start
    # A killed run starts nothing any more.
    first._start = lambda: start() if saved.killed else None  # type: ignore[method-assign]
    with pytest.raises(Killed):
        first.make("latest", actor="", from_target=False, accept_differences=False)
    assert not saved.killed
    Restore(saved.jobs(), saved.run).settle()
    between = serves(saved)
    assert between in saved.volumes and between
    saved.passes(60)
    saved.ticks = 1
    outcome = make(saved)
    assert serves(saved) == outcome.volume != OLD
    assert saved.jobs().records.journal() == {}
    # Where the first had come to serve, its volume stays as well until then.
    assert OLD in Restore(saved.jobs(), saved.run).confirm()
    assert saved.volumes == {outcome.volume}


def unsaved(host: Host) -> str:
    """A restore that serves and is not saved, as the target cannot be reached any more; its volume."""
    run, stops = host.run, []

    def until_then(command: t.Any, seconds: float, environment: t.Any) -> Result:
        stops.append(command) if "pg_drop_replication_slot" in " ".join(command) else None
        unreachable = stops and "backup" in command and "restic" in command
        return Result(1, "", "unreachable") if unreachable else run(command, seconds, environment)

    restore_ = Restore(Jobs(host.settings(), until_then, lambda: host.clock), until_then)
    with pytest.raises(FlowauditError, match=r"The database serves, but is not saved yet.*unreachable"):
        restore_.make("latest", actor="", from_target=False, accept_differences=False)
    assert host.jobs().records.journal()["step"] == "save_again"
    return serves(host)


def test_what_serves_and_is_not_saved_is_left_alone_and_ends_once_it_is(saved: Host) -> None:
    volume = unsaved(saved)
    assert volume not in ("", OLD)
    saved.ran.clear()
    saved.running[f"{saved.directory}/stack.yaml"].discard("db")
    assert not Restore(saved.jobs(), saved.run).settle()
    # Whatever the database is at: it is not this restore's affair any more.
    assert not any("compose" in text for text in saved.ran)
    with pytest.raises(FlowauditError, match="The last restore has not ended"):
        Restore(saved.jobs(), saved.run).confirm()
    saved.running[f"{saved.directory}/stack.yaml"].add("db")
    saved.passes(300)
    assert saved.jobs().run_all(["base", "wal"]) == []
    Restore(saved.jobs(), saved.run).settle()
    assert saved.jobs().records.journal() == {}
    assert Restore(saved.jobs(), saved.run).confirm() == [OLD]


def test_the_end_of_what_there_is_is_recovered_anew_and_a_moment_is_not(saved: Host) -> None:
    first = unsaved(saved)
    saved.ticks = 1
    saved.passes(60)
    second = make(saved)
    assert second.resumed_at == "save_again" and second.volume not in (first, OLD)
    assert saved.volumes == {OLD, first, second.volume}
    saved.passes(3600)
    at = "2026-01-31T14:00:00Z"
    third = make(saved, at)
    # As if it had not been saved.
    saved.jobs().records.write_journal(
        goal=at, volume=third.volume, previous=second.volume, actor="", at=at, step="save_again"
    )
    assert make(saved, at).volume == third.volume == serves(saved)


def test_where_no_database_comes_up_another_restore_is_the_way_out(saved: Host) -> None:
    saved.killed = "pg_drop_replication_slot"
    with pytest.raises(Killed):
        Restore(saved.jobs(), saved.run).make("latest", actor="", from_target=False, accept_differences=False)
    run, first = saved.run, saved.volume

    def dead(command: t.Any, seconds: float, environment: t.Any) -> Result:
        if "up" in command and "backend" in command and saved.volume == first:
            return Result(1, "", "the backend is unhealthy")
        fails = "up" in command and "db" in command and saved.volume == first
        fails = fails and first in pathlib.Path(f"{saved.directory}/stack.yaml").read_text()
        return Result(1, "", "it does not start") if fails else run(command, seconds, environment)

    saved.run = dead  # type: ignore[method-assign]
    saved.passes(60)
    with pytest.raises(FlowauditError, match="it does not start"):
        Restore(saved.jobs(), saved.run).settle()
    outcome = make(saved)
    assert "it does not start" in outcome.warnings[0]
    assert serves(saved) == outcome.volume and saved.volumes == {OLD, first, outcome.volume}


def test_another_restore_that_cannot_begin_leaves_the_first_to_the_tick(saved: Host) -> None:
    saved.killed = "pg_drop_replication_slot"
    with pytest.raises(Killed):
        Restore(saved.jobs(), saved.run).make("latest", actor="", from_target=False, accept_differences=False)
    first = saved.volume
    saved.passes(60)
    saved.broken = {"--wait-timeout 300 --force-recreate db": "full", "--wait-timeout 300 db": "full"}
    with pytest.raises(FlowauditError, match="before the first base backup"):
        make(saved, "2026-01-31T11:00:00Z")
    saved.broken = {}
    assert Restore(saved.jobs(), saved.run).settle()
    assert serves(saved) == first


def test_an_application_that_does_not_come_up_is_no_restore_under_way(saved: Host) -> None:
    saved.broken = {f"{saved.blue} up": "the schema is too old"}
    with pytest.raises(FlowauditError, match="the schema is too old"):
        make(saved)
    assert saved.volume != OLD
    saved.ran.clear()
    assert not Restore(saved.jobs(), saved.run).settle()
    assert not any("pg_drop_replication_slot" in text or "restored database" in text for text in saved.ran)
    saved.passes(60)
    assert saved.jobs().run_all(["base", "wal"]) == []
    Restore(saved.jobs(), saved.run).settle()
    assert saved.jobs().records.journal() == {}


def test_what_is_not_saved_is_not_thrown_away_by_asking_again(saved: Host) -> None:
    saved.broken = {" backup --json": "no space left"}
    first = make(saved, without_saving=True)
    saved.passes(60)
    again = make(saved, without_saving=True)
    assert again.volume == first.volume == serves(saved) and again.resumed_at == "save_again"


def test_what_is_not_saved_stays_in_its_volume_when_another_moment_is_asked_for(saved: Host) -> None:
    saved.broken = {" backup --json": "no space left", "pg_basebackup": "no space left"}
    first = make(saved, without_saving=True)
    saved.passes(60)
    other = make(saved, "2026-01-31T12:00:00Z", without_saving=True)
    assert other.volume == serves(saved) and saved.volumes == {OLD, first.volume, other.volume}
    saved.broken = {}
    saved.passes(60)
    assert saved.jobs().run_all(["base", "wal"]) == []
    Restore(saved.jobs(), saved.run).settle()
    assert sorted(Restore(saved.jobs(), saved.run).confirm()) == sorted([OLD, first.volume])


def test_a_database_that_cannot_be_saved_keeps_nobody_from_another_moment(saved: Host) -> None:
    first = unsaved(saved)
    saved.passes(60)
    saved.broken = {"pg_basebackup": "it does not answer"}
    with pytest.raises(FlowauditError, match="it does not answer"):
        make(saved)
    assert serves(saved) == first
    outcome = make(saved, "2026-01-31T12:30:00Z", without_saving=True)
    assert serves(saved) == outcome.volume and saved.volumes == {OLD, first, outcome.volume}


def test_a_recovery_that_failed_is_no_restore_under_way(saved: Host) -> None:
    done = make(saved)
    saved.passes(60)
    saved.broken = {"pg_amcheck": "damaged"}
    with pytest.raises(FlowauditError, match="damaged"):
        make(saved)
    assert Restore(saved.jobs(), saved.run).confirm() == [OLD]
    assert serves(saved) == done.volume


def test_a_full_target_keeps_nobody_from_a_restore(saved: Host) -> None:
    saved.broken = {" backup --json": "no space left"}
    with pytest.raises(FlowauditError, match=r"could not be saved: .*repeat this with -e restore_without_saving=true"):
        make(saved)
    assert serves(saved) == OLD
    outcome = make(saved, without_saving=True)
    assert serves(saved) == outcome.volume != OLD
    assert [each.partition(",")[0] for each in outcome.warnings] == [
        "The state that is left could not be saved",
        "The database serves",
    ]
    saved.broken = {}
    saved.passes(60)
    assert saved.jobs().run_all(["base", "wal"]) == []
    Restore(saved.jobs(), saved.run).settle()
    assert saved.jobs().records.journal() == {}


def test_what_the_receiver_does_not_have_is_no_restore_point(saved: Host) -> None:
    saved.received = False
    outcome = make(saved, without_saving=True)
    assert outcome.state_before == "" and "may be in the previous volume alone" in outcome.warnings[0]


def test_a_segment_that_became_whole_while_the_log_was_copied_is_in_the_copy(
    saved: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    last = saved.line() / f"{SEGMENT.format(3)}.partial"
    last.touch()
    copy = recovery.shutil.copyfile

    def once(source: str, into: str, **more: t.Any) -> str:
        if source == str(last) and last.exists():
            last.rename(last.with_suffix(""))
        return str(copy(source, into, **more))

    monkeypatch.setattr(recovery.shutil, "copyfile", once)
    shown: list[set[str]] = []

    def run(command: t.Any, seconds: float, environment: t.Any) -> Result:
        if "postgres" in command and "--detach" in command:
            shown.append({file.name for file in (saved.directory / "restore").glob("*/wal/*")})
        return saved.run(command, seconds, environment)

    Restore(saved.jobs(), run).make("latest", actor="", from_target=False, accept_differences=False)
    assert SEGMENT.format(3) in shown[0]


def test_begun_again_at_once_users_do_not_wait_for_the_second_recovery(saved: Host) -> None:
    saved.killed = "stop --timeout 1 backend"
    first = Restore(saved.jobs(), saved.run)
    first._start = lambda: None  # type: ignore[method-assign]
    with pytest.raises(Killed):
        first.make("latest", actor="", from_target=False, accept_differences=False)
    assert serves(saved) == ""
    saved.passes(60)
    saved.broken = {"pg_amcheck": "damaged"}
    with pytest.raises(FlowauditError, match="damaged"):
        make(saved)
    assert serves(saved) == OLD


def test_a_settled_host_has_nothing_to_settle(saved: Host) -> None:
    assert not Restore(saved.jobs(), saved.run).settle()
    make(saved)
    assert not Restore(saved.jobs(), saved.run).settle()


def test_what_would_be_done_is_said_without_doing_it(saved: Host) -> None:
    foreseen = Restore(saved.jobs(), saved.run).predict("2026-01-31T12:30:00Z")
    assert (foreseen.goal, foreseen.previous_volume) == ("2026-01-31T12:30:00Z", OLD)
    with pytest.raises(FlowauditError, match="in the future"):
        Restore(saved.jobs(), saved.run).predict("2099-01-31T12:30:00Z")
    assert saved.volumes == {OLD}


def test_an_application_that_cannot_be_told_runs_and_the_run_says_so(saved: Host) -> None:
    saved.broken = {"worker restored": "no such command"}
    with pytest.raises(FlowauditError, match="restored of the application failed: no such command"):
        make(saved)
    assert serves(saved) not in ("", OLD)
    assert saved.jobs().records.journal() == {}


# ── Drill ──


def test_a_drill_brings_everything_back_and_leaves_nothing(saved: Host) -> None:
    jobs = saved.jobs()
    jobs.run("drill")
    shown = jobs.status()["drill"]
    assert shown["problems"] == [] and shown["rpo"] == 0
    assert (shown["uploads"], shown["vectors"], shown["key"]) == (1, 5, "host")
    assert saved.volumes == {OLD} and serves(saved) == OLD
    assert not (saved.directory / "restore" / "drill").exists()


@pytest.mark.parametrize(
    ("break_it", "said"),
    [
        (lambda host: host.broken.update({"pg_amcheck": "x"}), "database: The recovered database is damaged"),
        (lambda host: host.broken.update({"rclone:nas/uploads": "x"}), "uploads: The repository uploads on nas"),
        (lambda host: setattr(host, "copied", {"a": 4}), "chroma: 4 vectors came back, 5 were saved"),
        (lambda host: (host.directory / "uploads" / "a").unlink(), "uploads: 0 files came back, 1 were saved"),
    ],
)
def test_a_drill_says_what_did_not_come_back(saved: Host, break_it: t.Callable[[Host], t.Any], said: str) -> None:
    break_it(saved)
    jobs = saved.jobs()
    with pytest.raises(FlowauditError, match=said):
        jobs.run("drill")
    assert jobs.status()["drill"]["problems"] and jobs.records.job("drill").error
    assert saved.volumes == {OLD}


def test_a_drill_proves_the_key_it_is_given(saved: Host) -> None:
    jobs = saved.jobs()
    jobs._drill_password_file = "/safe/recovery"
    jobs.run("drill")
    assert jobs.status()["drill"]["key"] == "recovery"
    asked = [text for text in saved.ran if text.startswith("restic") and " restore " in text]
    assert asked and all("--password-file /safe/recovery" in text for text in asked)


# ── Files and vectors ──


def files(host: Host, path: str, time: str = "latest", **more: bool) -> bring_back.Outcome:
    options = {"exact": False, "predict": False, **more}
    return bring_back.files(host.jobs(), host.run, path, time, **options)


def test_a_file_comes_back(saved: Host) -> None:
    outcome = files(saved, f"{saved.directory}/uploads", exact=True)
    assert (outcome.files, outcome.removed, outcome.taken_at) == (["a"], ["b"], "2026-01-31T12:00:00Z")
    assert any("--delete" in text for text in saved.ran if text.startswith("rsync --archive --checksum"))
    files(saved, f"{saved.directory}/uploads/a", predict=True)
    assert "--dry-run" in saved.ran[-1] and "--delete" not in saved.ran[-1]
    assert [each.name for each in (saved.directory / "restore").iterdir()] == []


@pytest.mark.parametrize(
    ("path", "time", "said"),
    [
        ("/etc/shadow", "latest", "is not among what is saved"),
        ("{}/uploads/../secret", "latest", "is not among what is saved"),
        ("{}/uploads/other", "latest", "does not have"),
        ("{}/uploads/a", "2026-01-31T11:00:00Z", r"no backup of that time, the first is of 2026-01-31 12:00:00"),
        ("{}/uploads/a", "pre-1-20260131T120000Z", "is a restore point of the database"),
    ],
)
def test_what_cannot_come_back_is_refused(saved: Host, path: str, time: str, said: str) -> None:
    with pytest.raises(FlowauditError, match=said):
        files(saved, path.format(saved.directory), time)


def test_vectors_come_back_and_what_was_there_is_kept(saved: Host) -> None:
    (saved.directory / "chroma.next").mkdir()
    outcome = bring_back.vectors(saved.jobs(), "latest", predict=False)
    assert outcome.vectors == {"default_database/documents": 5}
    assert pathlib.Path(outcome.kept).is_dir() and (saved.directory / "chroma").is_dir()
    assert any("worker restored vectors 2026-01-31T12:00:00Z" in text for text in saved.ran)
    saved.copied = {"default_database/documents": 4}
    with pytest.raises(FlowauditError, match="4 vectors came back, 5 were saved; nothing was changed"):
        bring_back.vectors(saved.jobs(), "latest", predict=False)
    assert bring_back.vectors(saved.jobs(), "latest", predict=True).taken_at == "2026-01-31T12:00:00Z"
    with pytest.raises(FlowauditError, match="has no Chroma"):
        bring_back.vectors(saved.jobs(chroma_service=""), "latest", predict=False)
    with pytest.raises(FlowauditError, match="is a restore point"):
        bring_back.vectors(saved.jobs(), "pre-1-20260131T120000Z", predict=False)


def test_vectors_between_two_renames_are_put_in_place(saved: Host) -> None:
    (saved.directory / "chroma").rename(saved.directory / "chroma.before")
    (saved.directory / "chroma.next").mkdir()
    saved.jobs().resume()
    assert (saved.directory / "chroma").is_dir()


def test_a_log_without_its_beginning_is_no_log(saved: Host) -> None:
    for file in saved.line().glob(SEGMENT.format(2) + "*"):
        file.unlink()
    with pytest.raises(FlowauditError, match="The write-ahead log lacks " + SEGMENT.format(2)):
        saved.jobs().run("drill")


def test_a_segment_that_is_not_laid_out_to_its_end_is_kept_from_the_server(saved: Host) -> None:
    name = f"{SEGMENT.format(3)}.partial"
    shown: list[set[str]] = []

    def run(command: t.Any, seconds: float, environment: t.Any) -> Result:
        if "postgres" in command and "--detach" in command:
            shown.append({file.name for file in (saved.directory / "restore").glob("*/wal/*")})
        return saved.run(command, seconds, environment)

    wanted: dict[str, t.Any] = {"actor": "", "from_target": False, "accept_differences": False}
    for size in (wal.SEGMENT_BYTES, wal.SEGMENT_BYTES - 1):
        partial = saved.line() / name
        partial.touch()
        os.truncate(partial, size)
        saved.passes(60)
        Restore(saved.jobs(), run).make("latest", **wanted)
    assert [name in names for names in shown] == [True, False]

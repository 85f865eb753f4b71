# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The jobs: what they save, what they refuse, what a failure or a kill leaves."""

from __future__ import annotations

import json
import os
import typing as t

import pytest

from ansible_collections.flowaudit.ops.plugins.module_utils import webhook
from ansible_collections.flowaudit.ops.plugins.module_utils.backup import program
from ansible_collections.flowaudit.ops.plugins.module_utils.backup.jobs import Jobs
from ansible_collections.flowaudit.ops.plugins.module_utils.backup.settings import Target
from ansible_collections.flowaudit.ops.plugins.module_utils.engine import Result
from ansible_collections.flowaudit.ops.plugins.module_utils.errors import FlowauditError
from ansible_collections.flowaudit.ops.plugins.module_utils.release.records import Records as ReleaseRecords
from ansible_collections.flowaudit.ops.tests.unit.plugins.backup_host import SEGMENT, Host, Killed


def kinds(host: Host, repository: str) -> list[str]:
    return [each["tags"][0] for each in host.snapshots[repository]]


def test_each_job_saves_what_it_is_for(host: Host) -> None:
    jobs = host.jobs()
    assert jobs.run_all(["base", "wal", "dump", "chroma", "uploads", "config", "check"]) == []
    assert kinds(host, "postgres") == ["base", "wal", "dump"]
    assert [kinds(host, name) for name in ("chroma", "uploads", "config")] == [["chroma"], ["uploads"], ["config"]]
    known = jobs.status()
    assert known["overdue"] == [] and all(not each["error"] for each in known["jobs"].values())
    base = host.snapshots["postgres"][0]["tags"]
    assert {"first_segment=" + SEGMENT.format(2), "timeline=1", f"stream={jobs.stream.name()}"} <= set(base)
    assert [each["rows"] for each in jobs.bases()] == [{"flowaudit": {"public.documents": 3}}]
    assert 'flowaudit_backup_success{job="dump"} 1' in (host.directory / "metrics/backup.prom").read_text()


def test_the_first_backups_of_a_host_come_back_in_a_drill(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "chown", lambda path, user, group: None)
    jobs = host.jobs()
    for name in jobs.names:
        host.passes(5)
        jobs.run(name)
    assert jobs.status()["drill"]["problems"] == []


def test_a_log_without_a_base_backup_gets_one_and_is_saved_once_more(host: Host) -> None:
    host.jobs().run("wal")
    assert kinds(host, "postgres") == ["wal", "base", "wal"]


def test_a_job_that_is_none_is_refused(host: Host) -> None:
    with pytest.raises(FlowauditError, match="There is no job odd here; the jobs are base, wal, dump"):
        host.jobs().run("odd")
    assert "copy" not in host.jobs().names
    assert "chroma" not in host.jobs(chroma_service="").names


@pytest.mark.parametrize(
    ("job", "broken", "said"),
    [
        ("base", "pg_basebackup", "The base backup failed: no space left"),
        ("base", "pg_verifybackup", "is not what its manifest says: no space left"),
        ("base", "restic", "did not take the backup: no space left"),
        ("dump", "pg_dump ", "The dump of flowaudit failed"),
        ("dump", "pg_restore", "cannot be read"),
        ("dump", "pg_dumpall", "The roles could not be dumped"),
        ("wal", "restic", "did not take the backup"),
        ("chroma", "rsync", "could not be copied"),
        ("uploads", "restic", "did not take the backup"),
        ("check", "restic", "is damaged"),
    ],
)
def test_a_failure_is_no_success_and_keeps_what_was_there(host: Host, job: str, broken: str, said: str) -> None:
    jobs = host.jobs()
    assert jobs.run_all(["base", "dump", "chroma", "wal"]) == []
    before = {name: sorted(os.listdir(host.directory / name)) for name in ("base", "dump")}
    kept = {name: list(held) for name, held in host.snapshots.items()}
    host.passes(60)
    host.broken = {broken: "no space left"}
    failed = jobs.run_all([job])
    assert failed and said in failed[0][1]
    record = jobs.records.job(job)
    assert record.error and record.succeeded_at != record.began_at
    assert {name: held[: len(kept[name])] for name, held in host.snapshots.items()} == kept
    for name, files in before.items():
        assert set(files) <= set(os.listdir(host.directory / name))
    host.broken = {}
    host.passes(60)
    assert jobs.run_all([job]) == []
    assert not [name for where in before for name in os.listdir(host.directory / where) if name.endswith(".part")]


def test_a_killed_job_leaves_no_half_backup_that_passes_for_one(host: Host) -> None:
    jobs = host.jobs()
    host.killed = "pg_verifybackup"
    with pytest.raises(Killed):
        jobs.run("base")
    assert jobs.bases() == [] and jobs.records.job("base").error == "It was ended before its end."
    host.passes(60)
    jobs.run("base")
    assert len(os.listdir(host.directory / "base")) == 1


def test_bases_and_dumps_go_once_a_newer_one_is_on_the_target(host: Host) -> None:
    jobs = host.jobs(dump_days=2)
    for _day in range(3):
        assert jobs.run_all(["base", "dump"]) == []
        host.passes(86400)
    assert len(jobs.bases()) == 1
    assert len(os.listdir(host.directory / "dump")) == 3
    host.broken = {"restic": "unreachable"}
    for _day in range(3):
        jobs.run_all(["base"])
        host.passes(86400)
    assert len(jobs.bases()) == 2


def test_a_clock_that_jumps_ahead_does_not_take_all_dumps_away(host: Host) -> None:
    jobs = host.jobs(dump_days=5)
    for _day in range(5):
        jobs.run("dump")
        host.passes(86400)
    host.passes(365 * 86400)
    jobs.run("dump")
    assert len(os.listdir(host.directory / "dump")) == 4


def test_the_log_goes_once_nothing_needs_it(host: Host) -> None:
    jobs = host.jobs(wal_hours=0)
    host.write_segments(1, 2, 3)
    for file in host.line().iterdir():
        os.utime(file, (0, 0))
    assert jobs.run_all(["base", "wal"]) == []
    assert jobs.stream.segments() == [SEGMENT.format(2), SEGMENT.format(3)]


def test_a_segment_that_is_missing_is_told(host: Host) -> None:
    jobs = host.jobs()
    jobs.run("base")
    host.write_segments(5)
    host.passes(300)
    for job in ("wal", "check"):
        with pytest.raises(FlowauditError, match="The write-ahead log on the host lacke?[ds]+ " + SEGMENT.format(4)):
            jobs.run(job)
    # The base backup that heals it was taken, and what is lost is on record.
    assert len(jobs.bases()) == 1 and jobs.records.job("base").succeeded_at == "2026-01-31T12:05:00Z"
    assert jobs.status()["gaps"] == 1


@pytest.mark.parametrize("slot", [("lost", False), ("unreserved", False), None])
def test_a_log_that_cannot_be_followed_begins_anew_with_a_base_backup(
    host: Host, slot: tuple[str, bool] | None
) -> None:
    jobs = host.jobs()
    jobs.run("base")
    jobs.run("wal")
    before = jobs.stream.name()
    host.slot = slot
    host.passes(300)
    with pytest.raises(FlowauditError, match="A new line was begun and a base backup taken; nothing can be restored"):
        jobs.run("wal")
    assert jobs.stream.name() != before
    assert jobs.status()["gaps"] == 1
    assert [each["stream"] for each in jobs.bases()] == [jobs.stream.name()]
    jobs.run("wal")
    assert jobs.status()["overdue"] == []


def test_a_receiver_that_was_away_goes_on_while_the_server_has_the_rest(host: Host) -> None:
    jobs = host.jobs()
    jobs.run("base")
    host.slot, host.in_server = ("reserved", False), {SEGMENT.format(3)}
    before = jobs.stream.name()
    jobs.run("wal")
    assert jobs.stream.name() == before
    assert host.slot == ("reserved", True)


def test_without_a_server_what_there_is_goes_to_the_target_all_the_same(host: Host) -> None:
    jobs = host.jobs()
    jobs.run("base")
    host.server = False
    with pytest.raises(FlowauditError, match="does not answer"):
        jobs.run("wal")
    assert kinds(host, "postgres") == ["base", "wal"]


def test_a_new_host_does_not_put_its_empty_database_after_the_backups_of_a_lost_one(host: Host) -> None:
    jobs = host.jobs()
    jobs.run("base")
    (host.directory / "wal" / "stream").unlink()
    for attempt in (lambda: jobs.run("wal"), jobs.follow):
        with pytest.raises(FlowauditError, match=r"nas has some of nuc1.*recover_host.*backup_adopt=true"):
            attempt()
    assert jobs.follow(adopt=True) == "There is no line of the write-ahead log yet."
    assert jobs.follow() == ""


def test_a_repository_of_another_system_is_refused(host: Host) -> None:
    host.jobs().run("base")
    with pytest.raises(FlowauditError, match="holds backups of nuc1, not of nuc2 alone"):
        host.jobs(system="nuc2").repository("postgres").snapshots()


@pytest.mark.parametrize(
    ("status", "said"),
    [(10, "there is none; run the playbook"), (11, "somebody else has it locked"), (12, "the password is another one")],
)
def test_what_is_wrong_with_a_repository_is_said(host: Host, status: int, said: str) -> None:
    jobs = host.jobs()
    jobs._run = lambda *_: Result(status, "", "")
    with pytest.raises(FlowauditError, match=said):
        jobs.repository("uploads").snapshots()
    if status == 10:
        assert jobs.repository("uploads").key_names() is None


# ── Chroma ──


def running(host: Host) -> tuple[bool, bool]:
    """Whether Chroma and the worker run."""
    return "chroma" in host.running[f"{host.directory}/stack.yaml"], "worker" in host.running[str(host.blue)]


def test_a_copy_of_chroma_that_is_not_whole_is_not_taken(host: Host) -> None:
    host.copied = {"default_database/documents": 4}
    with pytest.raises(FlowauditError, match="has 4 vectors in 1 collections, Chroma had 5 in 1; it was not taken"):
        host.jobs().run("chroma")
    assert kinds(host, "chroma") == [] and running(host) == (True, True)


@pytest.mark.parametrize("at", ["stop --timeout 1 worker", "stop --timeout 60 chroma", "rsync"])
def test_what_a_killed_copy_stopped_runs_again_within_a_tick(host: Host, at: str) -> None:
    jobs = host.jobs()
    # One that is killed resumes nothing itself.
    jobs.resume = lambda: None  # type: ignore[method-assign]
    host.killed = at
    with pytest.raises(Killed):
        jobs.run("chroma")
    assert running(host) != (True, True) or at.endswith("worker")
    host.jobs().tick()
    assert running(host) == (True, True)
    assert host.jobs().records.paused() == {}


def test_what_a_copy_has_stopped_is_left_to_it(host: Host) -> None:
    jobs = host.jobs()
    jobs.records.prepare()
    with jobs._still_chroma(counts=True):
        before = jobs.records.paused()
        host.jobs().tick()
        assert jobs.records.paused() == before
        assert running(host)[0] is False
    assert running(host) == (True, True)


def test_a_release_that_is_being_changed_is_waited_for(host: Host) -> None:
    from ansible_collections.flowaudit.ops.plugins.module_utils.release.records import Records

    with (
        Records(str(host.directory / "release")).lock(0, {"actor": "somebody"}),
        pytest.raises(FlowauditError, match="being changed"),
    ):
        host.jobs().run("chroma")
    assert running(host) == (True, True)


# ── Copies, ticks, what is told ──


def test_the_second_target_gets_what_the_first_has(host: Host) -> None:
    jobs = host.jobs(targets=[Target("nas"), Target("far")])
    jobs.run("copy")
    copies = [text for text in host.ran if " copy " in text]
    assert len(copies) == 4
    assert all("--repo rclone:far/" in text and "--from-repo rclone:nas/" in text for text in copies)


def test_a_heartbeat_that_is_not_received_is_told(host: Host) -> None:
    jobs = host.jobs()
    jobs.tick()
    assert jobs.status()["rpo_host"] == 0
    host.passes(60)
    host.received = False
    with pytest.raises(FlowauditError, match="does not have the last heartbeat"):
        _tick_at_once(jobs)
    assert jobs.status()["rpo_host"] == 60


def _tick_at_once(jobs: object) -> None:
    server = jobs.server  # type: ignore[attr-defined]
    received = server.received
    server.received = lambda seconds: received(0)
    jobs.tick()  # type: ignore[attr-defined]


def test_a_clock_that_was_wrong_makes_no_backup_young(host: Host) -> None:
    jobs = host.jobs()
    host.passes(365 * 86400)
    jobs.run("base")
    host.passes(-365 * 86400)
    assert "base" in jobs.status()["overdue"]


def test_success_and_failure_are_told(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[str, str]] = []
    monkeypatch.setattr(webhook, "post", lambda url, values, option: told.append((url, json.dumps(values))))
    jobs = host.jobs(ping_url="https://hc.example.org/{job}", alarm_url="https://chat.example.org/x")
    jobs.run("uploads")
    assert told[0][0] == "https://hc.example.org/uploads"
    host.broken = {"restic": "unreachable"}
    jobs.run_all(["uploads"])
    assert len(told) == 1
    program._failed(jobs, ["uploads"])
    assert "The backup job uploads of nuc1 failed" in told[1][1] and "unreachable" in told[1][1]
    program._failed(host.jobs(), ["uploads"])
    assert len(told) == 2


def test_half_of_a_base_backup_is_none(host: Host) -> None:
    jobs = host.jobs()
    jobs.run("base")
    (host.directory / "base" / "stray").mkdir()
    assert [each["name"] for each in jobs.bases()] == ["20260131T120000Z"]
    assert jobs.run_all(["wal", "check"]) == []


def test_a_base_backup_of_the_line_before_is_none(host: Host) -> None:
    run = host.run

    def begins(command: t.Any, seconds: float, environment: t.Any) -> Result:
        if "pg_basebackup" in command:
            (host.directory / "wal" / "stream").write_text("7/20260131T120500Z\n")
        return run(command, seconds, environment)

    with pytest.raises(FlowauditError, match="Another line of the log was begun meanwhile"):
        Jobs(host.settings(), begins, lambda: host.clock).run("base")
    assert host.jobs().bases() == [] and kinds(host, "postgres") == []


def test_a_log_whose_last_segment_became_whole_meanwhile_is_saved_again(host: Host) -> None:
    host.jobs().run("base")
    partial = host.line() / f"{SEGMENT.format(3)}.partial"
    run, saved = host.run, []

    def renames(command: t.Any, seconds: float, environment: t.Any) -> Result:
        if "backup" in command and "restic" in command:
            saved.append(command)
            if len(saved) == 1:
                partial.rename(partial.with_suffix(""))
        return run(command, seconds, environment)

    Jobs(host.settings(), renames, lambda: host.clock).run("wal")
    assert kinds(host, "postgres") == ["base", "wal", "wal"]


@pytest.mark.parametrize("job", ["base", "wal", "dump", "chroma", "uploads", "config"])
def test_no_job_saves_another_database_after_the_backups_of_a_lost_one(host: Host, job: str) -> None:
    (host.directory / "wal" / "stream").write_text("8/20260131T110000Z\n")
    with pytest.raises(FlowauditError, match="has another database than the one its backups are of"):
        host.jobs().run(job)
    assert not any(host.snapshots.values())


def test_a_log_that_is_behind_is_saved_and_told(host: Host) -> None:
    jobs = host.jobs()
    assert jobs.run_all(["base", "wal"]) == []
    host.passes(300)
    host.received = False
    with pytest.raises(FlowauditError, match="does not have the last heartbeat"):
        jobs.run("wal")
    assert kinds(host, "postgres") == ["base", "wal", "wal"]
    # The age of what the target has, not of the run that brought it there.
    assert jobs.status()["rpo_site"] == 300


def test_a_colour_that_serves_no_more_is_not_started_again(host: Host) -> None:
    jobs = host.jobs()
    jobs.records.prepare()
    jobs.records.pause({str(host.blue): ["worker"], f"{host.directory}/stack.yaml": ["chroma"]})
    (host.directory / "release" / "current").write_text('{"release_id": "1.1.0", "colour": "green"}')
    host.running[str(host.blue)].clear()
    jobs.resume_abandoned()
    assert host.running[str(host.blue)] == set() and jobs.records.paused() == {}


def test_what_came_up_again_is_not_stopped_for_what_did_not(host: Host) -> None:
    jobs = host.jobs()
    jobs.records.prepare()
    stack = f"{host.directory}/stack.yaml"
    jobs.records.pause({str(host.blue): ["worker"], stack: ["chroma"]})
    host.broken = {f"{host.blue} up": "unhealthy"}
    with pytest.raises(FlowauditError, match="unhealthy"):
        jobs.resume_abandoned()
    assert jobs.records.paused() == {str(host.blue): ["worker"]}


def test_during_a_deployment_nothing_is_resumed(host: Host) -> None:
    jobs = host.jobs()
    jobs.records.prepare()
    jobs.records.pause({f"{host.directory}/stack.yaml": ["chroma"]})
    with ReleaseRecords(str(host.directory / "release")).lock(0, {}):
        jobs.resume_abandoned()
    assert jobs.records.paused() != {}


def test_a_target_without_room_for_a_lock_can_be_read(host: Host) -> None:
    host.jobs().run("base")
    run = host.run

    def full(command: t.Any, seconds: float, environment: t.Any) -> Result:
        locks = "restic" in command and "--no-lock" not in command
        return Result(1, "", "no space left on device") if locks else run(command, seconds, environment)

    jobs = Jobs(host.settings(), full, lambda: host.clock)
    assert [each.kind for each in jobs.repository("postgres").snapshots()] == ["base"]

# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A log on the disk as a control node makes it, small and with something of everything, to ask, export and alter."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import pathlib
import shutil
import sqlite3
import typing as t
from collections.abc import Iterator

from ansible_collections.flowaudit.ops.plugins.module_utils.trail import checkpoint, commitment, home, rotation, sqlite

Fields = dict[str, t.Any]

RUN_A = "01950000-0000-7000-8000-00000000000a"  # anna, CHG-1, ok, two hosts
RUN_B = "01950000-0000-7000-8000-00000000000b"  # bert who was anna, ad hoc, failed
RUN_C = "01950000-0000-7000-8000-00000000000c"  # aborted
RUN_D = "01950000-0000-7000-8000-00000000000d"  # has not ended
SECRET = "-- old\n++ new"  # the diff that run A commits to


@dataclasses.dataclass
class Made:
    """The log's directory, and what others keep of it."""

    directory: pathlib.Path
    worm: pathlib.Path
    openings: dict[str, commitment.Opening]  # by what it is of

    @contextlib.contextmanager
    def log(self, *, read_only: bool = False) -> Iterator[sqlite.SqliteLog]:
        log = sqlite.SqliteLog(home.Home(self.directory), read_only=read_only)
        try:
            yield log
        finally:
            log.close()

    @contextlib.contextmanager
    def database(self) -> Iterator[sqlite3.Connection]:
        """The file, as one edits it who does not ask; what guards it is as before at the end."""
        with contextlib.closing(sqlite3.connect(self.directory / "trail.sqlite3")) as connection, connection:
            guards = connection.execute("SELECT name, sql FROM sqlite_schema WHERE type = 'trigger'").fetchall()
            for name, _sql in guards:
                connection.execute(f"DROP TRIGGER {name}")
            yield connection
            for _name, sql in guards:
                connection.execute(sql)

    def entries(self) -> list[Fields]:
        with self.log() as log:
            return [json.loads(row.line) for row in log.rows() if row.line is not None]

    def checkpoints(self) -> dict[int, str]:
        with self.log() as log:
            return {checkpoint.parse(signed).size: signed for signed in log.checkpoints()}

    def first_key(self) -> str:
        return str(self.entries()[0]["key"])

    def copy(self, directory: pathlib.Path) -> Made:
        """Another one of the same, in a directory that is there; quicker than to make it."""
        shutil.copytree(self.directory.parent, directory, dirs_exist_ok=True)
        return Made(directory / self.directory.name, directory / self.worm.name, self.openings)

    def keep(self, name: str = "") -> pathlib.Path:
        """Sign the log and have the checkpoint kept."""
        with self.log() as log:
            signed = log.add_checkpoint()
            path = self.worm / f"{name or f'{log.size():016d}'}.checkpoint"
        path.write_text(signed, encoding="utf-8")
        return path

    def append(self, *drafts: Fields) -> None:
        with self.log() as log:
            log.append(drafts)


def moment(minute: int, second: int = 0) -> str:
    return f"2026-03-01T10:{minute:02d}:{second:02d}.000Z"


def make(directory: pathlib.Path) -> Made:
    """The log: 34 entries, checkpoints after run A, at the new key and after run C, the last of them kept twice."""
    worm = directory.parent / "worm"
    worm.mkdir()
    log = sqlite.SqliteLog.open_or_create(home.Home(directory), "0.2.0", "node")
    openings = {
        "anna": commitment.commit("actor", b'{"login_user":"anna","uid":1000,"user":"anna"}'),
        "bert": commitment.commit("actor", b'{"login_user":"anna","uid":1001,"user":"bert"}'),
        "root": commitment.commit("actor", b'{"login_user":"root","uid":0,"user":"root"}'),
        "diff": commitment.commit("diff", SECRET.encode()),
    }
    log.append(run_a(openings), [openings["anna"], openings["diff"]])
    signed = log.add_checkpoint()
    (worm / f"{checkpoint.parse(signed).size:016d}-early.checkpoint").write_text(signed, encoding="utf-8")
    rotation.rotate(log)
    log.append(run_b(openings), [openings["bert"]])
    log.append(run_c(openings), [openings["root"]])
    log.append([{"type": "anchor", "ts": moment(30), "size": 5, "results": []}])
    log.close()
    made = Made(directory, worm, openings)
    made.keep()
    made.append(
        {"type": "run.start", "ts": moment(40), "run": RUN_D, **start("", ""), "actor": openings["anna"].commitment},
        {"type": "event", "ts": moment(40, 1), "run": RUN_D, "name": "behind the last checkpoint", "data": {}},
    )
    return made


def start(playbook: str, limit: str) -> Fields:
    return {
        "node": "cn1",
        "command": "ansible-playbook",
        "playbook": [playbook] if playbook else [],
        "repositories": [{"role": "playbook", "name": "ops", "commit": "0123456789abcdef" * 3, "dirty": True}],
        "inventory": ["inventories/production"],
        "limit": limit,
        "tags": ["all"],
        "skip_tags": [],
        "check": False,
        "diff": False,
        "extra_vars": ["release_id"],
        "ansible": "2.19.14",
        "collection": "0.2.0",
        "python": "3.11.7",
    }


def result(task: str, host: str, status: str = "ok", changed: bool = False, **more: t.Any) -> Fields:
    made = {"task": task, "host": host, "status": status, "changed": changed, "check": False, "dur_ms": 1234}
    return {"type": "task.result", **made, "fqcn": "ansible.builtin.copy", "src": "site.yml:3", **more}


def task(name: str, place: str, handler: bool = False) -> Fields:
    made = {"type": "task.start", "task": place, "play": "p1", "name": name, "src": f"site.yml:{place[1:]}"}
    return {**made, "fqcn": "ansible.builtin.copy", "handler": handler}


def run_a(openings: dict[str, commitment.Opening]) -> list[Fields]:
    kept = {"kept": {"path": "/etc/a"}, "diff": {"added": 1, "removed": 1}}
    blob = {"blobs": {"diff": [openings["diff"].commitment, len(SECRET)]}}
    drafts: list[Fields] = [
        {"type": "run.start", **start("playbooks/site.yml", "web"), "actor": openings["anna"].commitment},
        {"type": "play.start", "play": "p1", "name": "Web", "hosts": ["web01", "web02"]},
        task("Copy", "t1"),
        {"type": "task.dispatched", "task": "t1", "hosts": ["web01"]},
        {"type": "task.dispatched", "task": "t1", "hosts": ["web02"]},
        result("t1", "web01", changed=True, **kept, **blob),
        result("t1", "web02"),
        task("Look", "t2"),
        result("t2", "web01", "failed", ignored=True),
        result("t2", "web02", "skipped"),
        {"type": "event", "name": "handed over", "host": "web01", "data": {"to": "operations"}},
        {
            "type": "run.end",
            "status": "ok",
            "dur_ms": 61_000,
            "stats": {
                "web01": {"ok": 2, "changed": 1, "failures": 0, "unreachable": 0, "skipped": 0, "ignored": 1},
                "web02": {"ok": 1, "changed": 0, "failures": 0, "unreachable": 0, "skipped": 1, "ignored": 0},
            },
        },
    ]
    return [{**draft, "ts": moment(0, place), "run": RUN_A, "chg": "CHG-1"} for place, draft in enumerate(drafts)]


def run_b(openings: dict[str, commitment.Opening]) -> list[Fields]:
    begun = {**start("", ""), "command": "ansible", "module": "ping", "pattern": "db*", "check": True}
    drafts: list[Fields] = [
        {"type": "run.start", **begun, "actor": openings["bert"].commitment},
        {"type": "play.start", "play": "p2", "name": "", "hosts": []},
        task("ping", "t3"),
        result("t3", "db01", "unreachable", attempts=3, delegate="bastion"),
        result("t3", "db02", "failed", no_log=True),
        {"type": "run.end", "status": "failed", "dur_ms": 900, "stats": {}},
    ]
    return [{**draft, "ts": moment(10, place), "run": RUN_B} for place, draft in enumerate(drafts)]


def run_c(openings: dict[str, commitment.Opening]) -> list[Fields]:
    flying = [{"host": "web01", "task": "t4", "name": "Wait", "src": "site.yml:9"}]
    drafts: list[Fields] = [
        {"type": "run.start", **start("/srv/ops/other.yml", ""), "actor": openings["root"].commitment},
        {"type": "playbook.start", "playbook": "other.yml"},
        {"type": "play.start", "play": "p3", "name": "Wait", "hosts": ["web01"], "on_failure": "continue"},
        {"type": "include", "file": "tasks/more.yml", "hosts": ["web01"]},
        {"type": "prompt", "name": "answer"},
        {"type": "no_hosts", "play": "p3", "reason": "none remaining"},
        task("Wait", "t4", handler=True),
        {"type": "task.dispatched", "task": "t4", "hosts": ["web01"]},
        {"type": "task.retry", "task": "t4", "host": "web01", "attempts": 1},
        {"type": "gap", "lost": 7, "since": moment(20)},
        {
            "type": "run.aborted",
            "reason": "killed",
            "last_seq": 30,
            "last_ts": moment(20, 9),
            "tasks_in_flight": flying,
        },
    ]
    return [{**draft, "ts": moment(20, place), "run": RUN_C, "chg": "CHG-2"} for place, draft in enumerate(drafts)]

# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The command ``flowaudit-backup`` on the host: what its timers run, and what a person asks it.

::

    flowaudit-backup run wal          one job, or several
    flowaudit-backup tick             each minute: heartbeat, figures
    flowaudit-backup status           how old everything is (JSON); exit status 1 when something is overdue
    flowaudit-backup resume chroma    have run again what the job stopped
    flowaudit-backup failed wal       tell people that a job failed
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence

from .. import webhook
from ..engine import Result
from ..errors import FlowauditError
from . import settings
from .jobs import Jobs
from .restore import Restore


def run(command: Sequence[str], seconds: float, environment: Mapping[str, str]) -> Result:
    """Run a program, and end it when it takes longer than so many seconds."""
    try:
        done = subprocess.run(
            ["timeout", "--kill-after=30", str(int(seconds)), *command],
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
    except OSError as error:
        return Result(127, "", f"{command[0]}: {error.strerror}")
    if done.returncode == 124:
        return Result(124, done.stdout, f"it took longer than {seconds:g} seconds")
    return Result(done.returncode, done.stdout, done.stderr)


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the command line says; the exit status."""
    parser = argparse.ArgumentParser(prog="flowaudit-backup", description="Backups of this host.")
    parser.add_argument("--settings", default=settings.PATH)
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("run", "resume", "failed"):
        commands.add_parser(name).add_argument("jobs", nargs="+", metavar="job")
    commands.add_parser("tick")
    commands.add_parser("status")
    told = parser.parse_args(arguments)
    try:
        known = settings.load(told.settings)
        jobs = Jobs(known, run)
        if told.command == "run":
            return _run(jobs, told.jobs)
        if told.command == "failed":
            return _failed(jobs, told.jobs)
        if told.command == "resume":
            jobs.records.prepare()
            jobs.resume_abandoned()
            return 0
        if told.command == "tick":
            try:
                Restore(jobs, run).settle()
            finally:
                jobs.tick()
            return 0
        status = jobs.status()
        sys.stdout.write(f"{json.dumps(status, indent=2)}\n")
        return 1 if status["overdue"] else 0
    except (FlowauditError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 1


def _run(jobs: Jobs, names: Sequence[str]) -> int:
    jobs.require(names)
    failed = jobs.run_all(names)
    for name, why in failed:
        sys.stderr.write(f"{name}: {why}\n")
    return 1 if failed else 0


def _failed(jobs: Jobs, names: Sequence[str]) -> int:
    for name in names:
        known = jobs.settings
        why = jobs.records.job(name).error
        if known.alarm_url:
            text = f"The backup job {name} of {known.system} failed: {why}"
            webhook.post(known.alarm_url, {"text": text}, "backup_alarm_url")
    return 0

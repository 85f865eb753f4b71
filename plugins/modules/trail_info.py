#!/usr/bin/python
# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: trail_info
short_description: Ask the trail what was done
version_added: 0.2.0
author:
  - flowaudit.ops maintainers (@flowaudit)
description:
  - Lists runs or entries that fit, the newest first, or tells the story of a run.
  - All filters that are given must fit. What was archived is not in the log any more and is not found.
  - It answers from the log as it is. Whether that is as it was written is proved by M(flowaudit.ops.trail_verify).
extends_documentation_fragment:
  - flowaudit.ops.trail
options:
  about:
    description:
      - What is asked for.
      - V(runs) are the runs, each with who, when, from which commit, for which change, and how it ended.
      - V(entries) are the entries of the log as they are stored; with O(host) and O(changed) the changes of a host,
        with O(failed) and O(since) the failures of a week.
      - V(story) is one run as text for people.
    type: str
    choices: [runs, entries, story]
    default: runs
  run:
    description:
      - Id of a run. For V(about=story) without one, the run that was started last and does not run any more.
    type: str
    default: ""
  change_id:
    description:
      - The change that it was done for.
    type: str
    default: ""
  host:
    description:
      - A host that a result is about.
    type: str
    default: ""
  since:
    description:
      - From when on, as V(2026-03-01), V(2026-03-01T14:00:00Z), or how long ago (V(90m), V(24h), V(7d), V(2w)). For
        runs their start counts.
    type: str
    default: ""
  until:
    description:
      - Before when, written like O(since).
    type: str
    default: ""
  status:
    description:
      - How a run ended; V(open) has not ended.
    type: str
    choices: [ok, failed, unreachable, aborted, open]
  user:
    description:
      - Account that started a run, or that had logged in before it became another one. It is not found once it was
        erased.
    type: str
    default: ""
  playbook:
    description:
      - A playbook of a run, its whole path or the end of it.
    type: str
    default: ""
  command:
    description:
      - The command of a run.
    type: str
    choices: [ansible-playbook, ansible, ansible-console]
  type:
    description:
      - Type of the entries, such as V(task.result); docs/trail.md lists them.
    type: str
    default: ""
  changed:
    description:
      - Only results that changed something.
    type: bool
    default: false
  failed:
    description:
      - Only results that failed, or whose host could not be reached.
    type: bool
    default: false
  openings:
    description:
      - Also tell the values that the entries only commit to, such as diffs. They may be personal data.
    type: bool
    default: false
  limit:
    description:
      - How many at most, up to 10000.
    type: int
    default: 50
  before:
    description:
      - RV(next) of the answer before this one, to get those that follow.
    type: int
  language:
    description:
      - Language of the story.
    type: str
    choices: [en, de]
    default: en
attributes:
  check_mode:
    support: full
    description: Reads only, so check mode does the same.
  diff_mode:
    support: none
    description: Changes nothing.
"""

EXAMPLES = r"""
- name: What was done for a change?
  flowaudit.ops.trail_info:
    change_id: CHG-2026-0042

- name: Which runs of anna did not end well this week?
  flowaudit.ops.trail_info:
    user: anna
    status: failed
    since: 7d

- name: What was changed on web01 in March?
  flowaudit.ops.trail_info:
    about: entries
    host: web01
    changed: true
    since: "2026-03-01"
    until: "2026-04-01"

- name: What failed in the last week?
  flowaudit.ops.trail_info:
    about: entries
    failed: true
    since: 7d

- name: Tell me about the last run
  flowaudit.ops.trail_info:
    about: story
    language: de
"""

RETURN = r"""
origin:
  description: Name of the log.
  type: str
  returned: success
size:
  description: Entries of the log.
  type: int
  returned: success
runs:
  description: The runs; beside what is listed here each has what its C(run.start) entry says.
  type: list
  elements: dict
  returned: with O(about=runs)
  contains:
    run:
      description: Id of the run.
      type: str
    seq:
      description: Place of its first entry in the log.
      type: int
    status:
      description: How it ended, one of the choices of O(status).
      type: str
    started:
      description: When it began (UTC).
      type: str
    ended:
      description: When it ended, or was found to have been killed; none for one that has not ended.
      type: str
    duration_ms:
      description: How long it took, when that is known.
      type: int
    user:
      description: Account that started it; none once that was erased.
      type: str
    login_user:
      description: Account that had logged in.
      type: str
    uid:
      description: User id of the account.
      type: int
    change_id:
      description: The change; empty for none.
      type: str
    playbook:
      description: Its playbooks.
      type: list
      elements: str
    stats:
      description: Number of results by host and kind.
      type: dict
    tasks_in_flight:
      description: What hosts were at when it was aborted.
      type: list
      elements: dict
entries:
  description: The entries, as they are stored.
  type: list
  elements: dict
  returned: with O(about=entries)
openings:
  description: The values behind the commitments of the entries, as far as they were not erased.
  type: dict
  returned: with O(about=entries) and O(openings)
story:
  description: The run as text, a line each.
  type: list
  elements: str
  returned: with O(about=story)
next:
  description: What to give as O(before) for those that follow; none when there are no more.
  type: int
  returned: with O(about=runs) and O(about=entries)
"""

import typing as t

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.trail import arguments, canonical, evidence, query, story
from ..module_utils.trail.sqlite import SqliteLog

# Which filters say something about what is asked for; one that does not is a mistake, and no wider answer.
_FILTERS = {
    "runs": {"run", "change_id", "host", "since", "until", "status", "user", "playbook", "command", "limit", "before"},
    "entries": {
        "run",
        "change_id",
        "host",
        "since",
        "until",
        "type",
        "changed",
        "failed",
        "openings",
        "limit",
        "before",
    },
    "story": {"run", "language"},
}
_MOST = 10_000


def run(log: SqliteLog, parameters: dict[str, t.Any]) -> dict[str, t.Any]:
    """What the module returns."""
    about = parameters["about"]
    answer: dict[str, t.Any] = {"changed": False, "origin": log.origin, "size": log.size()}
    if about == "story":
        told = query.run(log, parameters["run"]) if parameters["run"] else query.last_run(log)
        return answer | {"story": story.tell(told, query.entries_of(log, told["run"]), parameters["language"])}
    period = query.Period(*(query.moment(parameters[name]) if parameters[name] else "" for name in ("since", "until")))
    limit, before = parameters["limit"], parameters["before"]
    if about == "runs":
        names = ("run", "change_id", "host", "status", "user", "playbook", "command")
        runs = query.RunFilter(**{name: parameters[name] or "" for name in names}, period=period)
        page = query.runs(log, runs, limit, before)
    else:
        wanted = {name: parameters[name] for name in ("type", "run", "change_id", "host", "changed", "failed")}
        page = query.entries(log, query.EntryFilter(**wanted, period=period), limit, before)
    answer |= {about: page.items, "next": page.next}
    return answer | {"openings": opened(log, page.items)} if parameters["openings"] else answer


def opened(log: SqliteLog, entries: list[dict[str, t.Any]]) -> dict[str, str]:
    """What the entries commit to, by commitment."""
    named = {name for value in entries for name in evidence.commitments(canonical.encode(value))}
    return {name: opening.value.decode("utf-8", "replace") for name, opening in log.openings(sorted(named)).items()}


def main() -> None:
    spec: dict[str, dict[str, t.Any]] = {
        "directory": arguments.DIRECTORY,
        "about": {"type": "str", "choices": ["runs", "entries", "story"], "default": "runs"},
        "run": {"type": "str", "default": ""},
        "change_id": {"type": "str", "default": ""},
        "host": {"type": "str", "default": ""},
        "since": {"type": "str", "default": ""},
        "until": {"type": "str", "default": ""},
        "status": {"type": "str", "choices": ["ok", "failed", "unreachable", "aborted", "open"]},
        "user": {"type": "str", "default": ""},
        "playbook": {"type": "str", "default": ""},
        "command": {"type": "str", "choices": ["ansible-playbook", "ansible", "ansible-console"]},
        "type": {"type": "str", "default": ""},
        "changed": {"type": "bool", "default": False},
        "failed": {"type": "bool", "default": False},
        "openings": {"type": "bool", "default": False},
        "limit": {"type": "int", "default": 50},
        "before": {"type": "int"},
        "language": {"type": "str", "choices": ["en", "de"], "default": "en"},
    }
    module = AnsibleModule(argument_spec=spec, supports_check_mode=True)
    about = module.params["about"]
    for name in sorted(set(spec) - _FILTERS[about] - {"directory", "about"}):
        if module.params[name] != spec[name].get("default"):
            module.fail_json(msg=f"{name} says nothing about {about}; leave it out, or ask about something else.")
    if not 1 <= module.params["limit"] <= _MOST:
        module.fail_json(msg=f"limit is {module.params['limit']}; it must be from 1 to {_MOST}.")
    with arguments.opened(module, read_only=True) as log:
        answer = run(log, module.params)
    module.exit_json(**answer)


if __name__ == "__main__":
    main()

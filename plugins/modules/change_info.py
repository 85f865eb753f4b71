#!/usr/bin/python
# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: change_info
short_description: Tell what is known of the changes of a protected inventory
version_added: 0.3.0
author:
  - flowaudit.ops maintainers (@flowaudit)
description:
  - Reads changes from the inventory's repository, verifies the signatures, and looks up in the trail what has run.
extends_documentation_fragment:
  - flowaudit.ops.attributes
  - flowaudit.ops.attributes.reads
  - flowaudit.ops.trail
  - flowaudit.ops.change
options:
  custody:
    description:
      - Socket of the control node's custody, which then has the trail instead of O(directory). The playbooks take it
        from the settings of P(flowaudit.ops.trail#callback).
    type: path
    default: ""
    version_added: 0.4.0
  id:
    description:
      - Only this change, and its page.
    type: str
    default: ""
  state:
    description:
      - Only changes in one of these states.
    type: list
    elements: str
    choices: [requested, approved, running, done, failed, rolled back, reviewed, revoked, expired]
    default: []
  language:
    description:
      - Of the page, the calendar and the announcement.
    type: str
    choices: [en, de]
    default: en
  days:
    description:
      - How many days the calendar has.
    type: int
    default: 92
seealso:
  - module: flowaudit.ops.change
"""

EXAMPLES = r"""
- name: List the changes that wait for approval
  flowaudit.ops.change_info:
    inventory: inventories/production
    state: [requested]
  register: waiting
"""

RETURN = r"""
changes:
  description: The changes, the newest first.
  type: list
  elements: dict
  returned: success
  contains:
    id: {description: Its id., type: str}
    state: {description: Where it is., type: str}
    title: {description: What it is., type: str}
    kind: {description: How it is approved., type: str}
    risk: {description: How bad it can get., type: str}
    requester: {description: Who requested it., type: str}
    expires_at: {description: When it expires., type: str}
    hosts: {description: The hosts it is about., type: list, elements: str}
    playbooks: {description: The playbooks it is about., type: list, elements: str}
    approvals: {description: Who approved it., type: list, elements: str}
    missing: {description: What its approvals lack., type: list, elements: str}
    review_due: {description: When its review is due; emergency changes only., type: str}
    runs: {description: The runs that began for it., type: list, elements: dict}
    problem: {description: Why nothing more is known of it., type: str}
page:
  description: The page about the change, in Markdown.
  type: str
  returned: with O(id)
calendar:
  description: Windows and freezes of the next days as an iCalendar file.
  type: str
  returned: without O(id)
announcement:
  description: What tells of the next window; C(subject) and C(text).
  type: dict
  returned: without O(id)
"""

import datetime
import typing as t

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.change import calendar, gate_file, page, policy, signature
from ..module_utils.change.gate import Gate, Standing, stand, stated
from ..module_utils.change.model import Kind, State
from ..module_utils.custody.client import Custody
from ..module_utils.errors import FlowauditError
from ..module_utils.trail import arguments, entry, query
from ..module_utils.trail.home import Home
from ..module_utils.trail.sqlite import SqliteLog

_FINAL = (State.REQUESTED, State.APPROVED)  # the states that end by themselves


def _told(standing: Standing, rules: policy.Policy, now: datetime.datetime) -> dict[str, t.Any]:
    change, ended, key = standing.change, standing.history.ended, standing.requester_key
    expired = standing.state in _FINAL and now >= change.expires_at
    due = ""
    if change.kind is Kind.EMERGENCY and ended is not None and not standing.history.reviewed:
        due = entry.timestamp((ended + rules.review_within).timestamp())
    return {
        "id": change.id,
        "state": str(State.EXPIRED if expired else standing.state),
        "title": change.title,
        "kind": str(change.kind),
        "risk": str(change.risk),
        "requester": change.requester,
        "expires_at": entry.timestamp(change.expires_at.timestamp()),
        "hosts": list(change.scope.hosts),
        "playbooks": list(change.scope.playbooks),
        "approvals": [approval.principal for approval in standing.approvals],
        "missing": [refusal.message for refusal in policy.lacking(rules, change, standing.approvals, key)],
        "review_due": due,
        "runs": [
            {
                "run": run.run,
                "playbooks": list(run.playbooks),
                "hosts": list(run.hosts),
                "check": run.check,
                "rollback": run.rollback,
                "state": str(run.state),
            }
            for run in standing.history.runs
        ],
    }


def _page(gate: Gate, standing: Standing, log: SqliteLog | None, language: str) -> str:
    changed = {}
    for run in standing.history.runs:
        wanted = query.EntryFilter(run=run.run, changed=True)
        changed[run.run] = len(query.places(log, wanted)) if log is not None else 0
    signers, filed, key = gate.terms.signers.encode(), standing.filed, standing.requester_key
    said = {
        "revocation": stated(filed.revocation, standing.change, signers, signature.REVOCATION, key),
        "review": stated(filed.review, standing.change, signers, signature.REVIEW, key),
    }
    return page.write(standing, changed, said, language)


def run(module: AnsibleModule, log: SqliteLog | None, custody: Custody | None) -> dict[str, t.Any]:
    """Look everything up."""
    params, now = module.params, datetime.datetime.now(datetime.UTC)
    gate = gate_file.load(gate_file.find(params["inventory"], params["id"]))
    if not gate.protected:
        raise FlowauditError(f"The inventory {gate.name} is not protected: it has no changes.")
    rules = policy.parse(gate.terms.rules)

    def known(change_id: str) -> Standing:
        entries = custody.entries_of(gate.name, change_id) if custody is not None else ()
        return stand(gate, change_id, log, remember=False, entries=entries)

    if params["id"]:
        standing = known(params["id"])
        told = _told(standing, rules, now)
        return {"changes": [told], "page": _page(gate, standing, log, params["language"])}
    found, planned = [], []
    for change_id in reversed(gate.repository.ids()):
        try:
            standing = known(change_id)
        except FlowauditError as error:
            found.append({"id": change_id, "state": "", "problem": str(error)})
            continue
        told = _told(standing, rules, now)
        found.append(told)
        if told["state"] == State.APPROVED and standing.change.kind is not Kind.EMERGENCY:
            planned.append(standing.change)
    wanted = params["state"]
    return {
        "changes": [told for told in found if not wanted or told["state"] in wanted],
        "calendar": calendar.icalendar(gate.name, rules.calendar, now, params["days"], params["language"]),
        "announcement": calendar.announcement(gate.name, rules.calendar, planned, now, params["language"]),
    }


def main() -> None:
    states = [str(state) for state in State if state is not State.DRAFT]
    module = AnsibleModule(
        argument_spec={
            "directory": arguments.DIRECTORY,
            "custody": {"type": "path", "default": ""},
            "inventory": {"type": "path", "required": True},
            "id": {"type": "str", "default": ""},
            "state": {"type": "list", "elements": "str", "choices": states, "default": []},
            "language": {"type": "str", "choices": ["en", "de"], "default": "en"},
            "days": {"type": "int", "default": 92},
        },
        supports_check_mode=True,
    )
    try:
        home = Home(module.params["directory"])
        custody = Custody(module.params["custody"]) if module.params["custody"] else None
        log = SqliteLog(home, read_only=True) if custody is None and home.database.exists() else None
        try:
            result = run(module, log, custody)
        finally:
            if custody is not None:
                custody.close()
            if log is not None:
                log.close()
    except FlowauditError as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=False, **result)


if __name__ == "__main__":
    main()

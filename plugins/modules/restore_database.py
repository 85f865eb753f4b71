#!/usr/bin/python
# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: restore_database
short_description: Bring a host's database back to a moment
version_added: 0.5.0
author:
  - flowaudit.ops maintainers (@flowaudit)
description:
  - Recovers the database into a volume of its own, beside the one that serves, and proves it there (every table and
    index is read, every checksum compared). Only then users meet the maintenance page for as long as the server takes
    to start on the new volume.
  - The state that is left is saved first and has a restore point of its own; its volume stays until
    O(state=confirmed).
  - A run that was stopped leaves one of the two serving, at the latest a minute later. Begun again, it completes what
    already serves, or recovers anew.
options:
  state:
    description:
      - V(restored) brings the database back to O(time); V(confirmed) removes the volumes that earlier restores have
        left.
    type: str
    choices: [restored, confirmed]
    default: restored
  time:
    description:
      - V(latest), a time with its zone such as V(2026-11-21 14:03:00+01:00), or the restore point a deployment made.
    type: str
  from_target:
    description:
      - Take nothing from this host, as if it were lost. Slower, and independent of its disk.
    type: bool
    default: false
  accept_differences:
    description:
      - Go on though tables that had rows when the base backup was taken are empty at that moment.
    type: bool
    default: false
  without_saving:
    description:
      - Go on though the target takes neither the state that is left nor the new one, as when it is full. The state that
        is left is in its volume alone then.
    type: bool
    default: false
  actor:
    description:
      - Who asks for it, for the host's record.
    type: str
    default: ""
extends_documentation_fragment:
  - flowaudit.ops.backup
  - flowaudit.ops.attributes
attributes:
  check_mode:
    support: full
    details: Says whether the moment can be reached; whether its backup is good shows by recovering it only.
  diff_mode:
    support: full
    details: Shows the database's volume before and after.
  idempotent:
    support: none
    details: Each run recovers anew, unless it goes on from one that was stopped.
seealso:
  - module: flowaudit.ops.backup
"""

EXAMPLES = r"""
- name: Bring the database back to before a mistake
  flowaudit.ops.restore_database:
    time: "2026-11-21 14:03:00+01:00"

- name: Bring it back to before the migrations of a release
  flowaudit.ops.restore_database:
    time: pre-1.2.0-20260131T120000Z

- name: Remove what it was in before, once the users have confirmed it
  flowaudit.ops.restore_database:
    state: confirmed
"""

RETURN = r"""
goal:
  description: The moment that was wanted.
  returned: O(state=restored)
  type: str
  sample: "2026-11-21T13:03:00Z"
volume:
  description: The volume the database is in.
  returned: O(state=restored)
  type: str
  sample: flowaudit_pgdata_20261121T140012Z
previous_volume:
  description: The one before, which stays until it is confirmed.
  returned: O(state=restored)
  type: str
  sample: flowaudit_pgdata_1
state_before:
  description: Restore point of the state that was left; empty when the server did not answer.
  returned: O(state=restored)
  type: str
  sample: before-restore-20261121T140010Z
recovered:
  description: What was recovered and proved.
  returned: O(state=restored), unless it went on from a run that was stopped
  type: dict
  sample: {"base": "20261121T010000Z", "heartbeat": "2026-11-21T13:02:47Z", "sources": {"base": "host", "log": "host"}}
interrupted:
  description: Seconds without the application.
  returned: O(state=restored)
  type: float
  sample: 9.8
seconds:
  description: Seconds of the whole.
  returned: O(state=restored)
  type: float
  sample: 31.4
resumed_at:
  description: The step of a run that was stopped, which this one went on from; empty for none.
  returned: O(state=restored)
  type: str
  sample: ""
timings:
  description: Seconds of each step.
  returned: O(state=restored)
  type: dict
  sample: {"recover": 14.1, "switch": 3.9}
removed:
  description: The volumes that were removed.
  returned: O(state=confirmed)
  type: list
  elements: str
  sample: [flowaudit_pgdata_1]
"""

import dataclasses
import typing as t

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.backup import settings
from ..module_utils.backup.jobs import Jobs
from ..module_utils.backup.program import run as run_program
from ..module_utils.backup.records import stamp
from ..module_utils.backup.restore import Outcome, Restore
from ..module_utils.errors import FlowauditError


def restored(restore: Restore, parameters: dict[str, t.Any], *, predict: bool) -> dict[str, t.Any]:
    """Bring the database back; the module's result.

    Raises:
        FlowauditError: it was not.
    """
    if predict:
        outcome = restore.predict(parameters["time"])
    else:
        outcome = restore.make(
            parameters["time"],
            actor=parameters["actor"],
            from_target=parameters["from_target"],
            accept_differences=parameters["accept_differences"],
            without_saving=parameters["without_saving"],
        )
    diff = {"before": f"{outcome.previous_volume}\n", "after": f"{outcome.volume}\n"}
    return {"changed": True, "diff": diff, **document(outcome)}


def document(outcome: Outcome) -> dict[str, t.Any]:
    """An outcome as plain data."""
    values = dataclasses.asdict(outcome)
    if outcome.recovered is not None:
        heartbeat = outcome.recovered.heartbeat
        values["recovered"]["heartbeat"] = stamp(heartbeat) if heartbeat else ""
    return values


def confirmed(restore: Restore, jobs: Jobs, *, predict: bool) -> dict[str, t.Any]:
    """Remove what restores have left; the module's result."""
    names = [name for name in jobs.records.retired() if name != restore.volume()] if predict else restore.confirm()
    diff = {"before": "".join(f"{name}\n" for name in names), "after": ""}
    return {"changed": bool(names), "removed": names, "diff": diff}


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "settings": {"type": "path", "default": settings.PATH},
            "state": {"type": "str", "choices": ["restored", "confirmed"], "default": "restored"},
            "time": {"type": "str"},
            "from_target": {"type": "bool", "default": False},
            "accept_differences": {"type": "bool", "default": False},
            "without_saving": {"type": "bool", "default": False},
            "actor": {"type": "str", "default": ""},
        },
        required_if=[("state", "restored", ["time"])],
        supports_check_mode=True,
    )
    try:
        jobs = Jobs(settings.load(module.params["settings"]), run_program)
        restore = Restore(jobs, run_program)
        if module.params["state"] == "confirmed":
            result = confirmed(restore, jobs, predict=module.check_mode)
        else:
            result = restored(restore, module.params, predict=module.check_mode)
    except (FlowauditError, OSError) as error:
        module.fail_json(msg=str(error))
    for warning in result.pop("warnings", []):
        module.warn(warning)
    module.exit_json(**result)


if __name__ == "__main__":
    main()

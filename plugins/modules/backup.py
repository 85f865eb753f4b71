#!/usr/bin/python
# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: backup
short_description: Take backups now
version_added: 0.5.0
author:
  - flowaudit.ops maintainers (@flowaudit)
description:
  - Runs the jobs of the host's backups, one after the other, as its timers do. Each is proved as far as that goes at
    once, and on the target before it counts.
  - A job that fails does not keep the others from running; the module fails after the last.
options:
  jobs:
    description:
      - The jobs, in this order; all there are unless set. They are V(wal) (the write-ahead log), V(base) (a base
        backup), V(dump), V(chroma), V(uploads), V(config), V(copy) (to the other targets), V(check) (read what is
        there) and V(drill) (restore everything beside the live system).
    type: list
    elements: str
    default: []
  only_overdue:
    description:
      - Leave out those whose last success is recent enough.
    type: bool
    default: false
  password:
    description:
      - With the job V(drill), the password of the key to prove instead of the host's own, such as the recovery key. It
        is on the host for the run only.
    type: str
extends_documentation_fragment:
  - flowaudit.ops.backup
  - flowaudit.ops.attributes
attributes:
  check_mode:
    support: full
    details: Says which jobs would run; what they would save shows by running them only.
  diff_mode:
    support: none
    details: What a backup adds is no text.
  idempotent:
    support: partial
    details: A job runs each time it is asked for, unless O(only_overdue=true).
seealso:
  - module: flowaudit.ops.backup_info
"""

EXAMPLES = r"""
- name: Save everything before a risky change
  flowaudit.ops.backup:

- name: Have a base backup of today
  flowaudit.ops.backup:
    jobs: [base]
    only_overdue: true
"""

RETURN = r"""
ran:
  description: The jobs that ran, or would have in check mode.
  returned: always
  type: list
  elements: str
  sample: [wal, base]
jobs:
  description: Job to its record.
  returned: always
  type: dict
  contains:
    succeeded_at:
      description: When the last run that succeeded began.
      type: str
      sample: "2026-01-31T01:00:04Z"
    seconds:
      description: How long it took.
      type: float
      sample: 12.4
    size:
      description: Bytes of what it saved.
      type: int
      sample: 1934201
    error:
      description: Why the last run failed; empty when it did not.
      type: str
      sample: ""
    details:
      description: What else it says of itself.
      type: dict
      sample: {"name": "20260131T010004Z", "added": 53212}
"""

import contextlib
import dataclasses
import tempfile
import typing as t
from collections.abc import Sequence

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.backup import settings
from ..module_utils.backup.jobs import Jobs
from ..module_utils.backup.program import run as run_program
from ..module_utils.errors import FlowauditError


def run(jobs: Jobs, names: Sequence[str], *, only_overdue: bool, predict: bool) -> dict[str, t.Any]:
    """Do the jobs; the module's result."""
    names = list(names) or jobs.names
    jobs.require(names)
    if only_overdue:
        overdue = jobs.status()["overdue"]
        names = [name for name in names if name in overdue]
    failed = [] if predict else [f"{name}: {error}" for name, error in jobs.run_all(names)]
    records = {name: dataclasses.asdict(jobs.records.job(name)) for name in names}
    result = {"changed": bool(names), "ran": names, "jobs": records}
    return {**result, "failed": True, "msg": " ".join(failed)} if failed else result


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "settings": {"type": "path", "default": settings.PATH},
            "jobs": {"type": "list", "elements": "str", "default": []},
            "only_overdue": {"type": "bool", "default": False},
            "password": {"type": "str", "no_log": True},
        },
        supports_check_mode=True,
    )
    try:
        with contextlib.ExitStack() as stack:
            key = ""
            if module.params["password"]:
                key = stack.enter_context(tempfile.NamedTemporaryFile("w", dir=module.tmpdir)).name
                with open(key, "w", encoding="utf-8") as stream:
                    stream.write(module.params["password"])
            jobs = Jobs(settings.load(module.params["settings"]), run_program, drill_password_file=key)
            result = run(
                jobs,
                module.params["jobs"],
                only_overdue=module.params["only_overdue"],
                predict=module.check_mode,
            )
    except (FlowauditError, OSError) as error:
        module.fail_json(msg=str(error))
    if result.get("failed"):
        module.fail_json(**result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()

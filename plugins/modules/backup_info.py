#!/usr/bin/python
# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: backup_info
short_description: Tell how old a host's backups are, and what is overdue
version_added: 0.5.0
author:
  - flowaudit.ops maintainers (@flowaudit)
description:
  - Reads what the host has on record of its backups. Nothing is asked of the target.
extends_documentation_fragment:
  - flowaudit.ops.backup
  - flowaudit.ops.attributes
  - flowaudit.ops.attributes.reads
seealso:
  - module: flowaudit.ops.backup
"""

EXAMPLES = r"""
- name: Ask how old everything is
  flowaudit.ops.backup_info:
  register: backups

- name: Stop before a risky change when something is overdue
  ansible.builtin.assert:
    that: backups.overdue | length == 0
"""

RETURN = r"""
system:
  description: The name its snapshots carry.
  returned: success
  type: str
  sample: nuc1
targets:
  description: Where they go, the first one first.
  returned: success
  type: list
  elements: str
  sample: [nas]
jobs:
  description: Job to how it is.
  returned: success
  type: dict
  contains:
    succeeded_at:
      description: When the last run that succeeded began; empty before the first.
      type: str
      sample: "2026-01-31T01:00:04Z"
    age:
      description: Seconds since then.
      type: float
      sample: 214.2
    due:
      description: Seconds after which it is overdue; 0 for never.
      type: float
      sample: 900
    overdue:
      description: Whether it is.
      type: bool
      sample: false
    seconds:
      description: How long it took.
      type: float
      sample: 1.4
    size:
      description: Bytes of what it saved.
      type: int
      sample: 33554432
    error:
      description: Why the last run failed; empty when it did not.
      type: str
      sample: ""
overdue:
  description: The jobs that are overdue.
  returned: success
  type: list
  elements: str
  sample: []
rpo_host:
  description: Age in seconds of what survives if the database is lost and the disk of the write-ahead log is not.
  returned: success
  type: float
  sample: 42.1
rpo_site:
  description: Age in seconds of what survives if the host is lost.
  returned: success
  type: float
  sample: 214.2
gaps:
  description: How often the write-ahead log could not be followed.
  returned: success
  type: int
  sample: 0
drill:
  description: What the last restore drill has shown; empty before the first.
  returned: success
  type: dict
  sample: {}
unrecorded:
  description: Integrity checks and drills that are not in the trail yet, the oldest first.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: Its file in C(proofs) below the directory of the records.
      type: str
      sample: 20260201T060014Z-check.json
    kind:
      description: V(check) or V(drill).
      type: str
      sample: check
    at:
      description: When it was.
      type: str
      sample: "2026-02-01T06:00:14Z"
    problems:
      description: What was found, in sentences; nothing when all is well.
      type: list
      elements: str
      sample: []
records:
  description: Where the host keeps what it knows of its backups.
  returned: success
  type: str
  sample: /var/lib/flowaudit/backup
"""

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.backup import settings
from ..module_utils.backup.jobs import Jobs
from ..module_utils.backup.program import run as run_program
from ..module_utils.errors import FlowauditError


def main() -> None:
    module = AnsibleModule(
        argument_spec={"settings": {"type": "path", "default": settings.PATH}},
        supports_check_mode=True,
    )
    try:
        status = Jobs(settings.load(module.params["settings"]), run_program).status()
    except (FlowauditError, OSError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=False, **status)


if __name__ == "__main__":
    main()

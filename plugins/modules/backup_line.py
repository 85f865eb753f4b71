#!/usr/bin/python
# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: backup_line
short_description: Have PostgreSQL's write-ahead log followed
version_added: 0.5.0
author:
  - flowaudit.ops maintainers (@flowaudit)
description:
  - Starts the receiver of the write-ahead log where it does not run, and begins a new line of it where there is none
    yet, or where the old one cannot be gone on with (another database, a lost replication slot).
  - After a new line a base backup is needed (M(flowaudit.ops.backup)); from the old one, all before it can be restored.
options:
  adopt:
    description:
      - Begin a line though the target has backups of a host of this name that was another one.
    type: bool
    default: false
extends_documentation_fragment:
  - flowaudit.ops.backup
  - flowaudit.ops.attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
    details: Shows the line before and after.
  idempotent:
    support: full
seealso:
  - module: flowaudit.ops.backup
"""

EXAMPLES = r"""
- name: Follow the log
  flowaudit.ops.backup_line:
"""

RETURN = r"""
line:
  description: The line that is followed, C(<system identifier>/<time it began>).
  returned: success
  type: str
  sample: 7573019482/20260131T120000Z
reason:
  description: Why it was not followed before; empty when it was.
  returned: success
  type: str
  sample: There is no line of the write-ahead log yet.
"""

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.backup import settings
from ..module_utils.backup.jobs import Jobs
from ..module_utils.backup.program import run as run_program
from ..module_utils.errors import FlowauditError


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "settings": {"type": "path", "default": settings.PATH},
            "adopt": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    try:
        jobs = Jobs(settings.load(module.params["settings"]), run_program)
        before = jobs.stream.name()
        reason = jobs.follow(predict=module.check_mode, adopt=module.params["adopt"])
    except (FlowauditError, OSError) as error:
        module.fail_json(msg=str(error))
    after = jobs.stream.name() if not module.check_mode else before if not reason else "a new line"
    module.exit_json(
        changed=bool(reason),
        line=jobs.stream.name(),
        reason=reason,
        diff={"before": f"{before}\n" if before else "", "after": f"{after}\n"},
    )


if __name__ == "__main__":
    main()

#!/usr/bin/python
# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: trail_erase
short_description: Erase personal data from the trail
version_added: 0.2.0
author:
  - flowaudit.ops maintainers (@flowaudit)
description:
  - Deletes what the trail's commitments are about (Article 17 GDPR). The entries and their hashes stay, so the log
    verifies as before; who ran these runs cannot be told any more, by nobody. The erasure is an entry of the log.
  - Backups of the trail and exports with openings hold the data until they are deleted.
extends_documentation_fragment:
  - flowaudit.ops.attributes
  - flowaudit.ops.trail
options:
  account:
    description: The account whose runs are made anonymous, by its name as it ran or as it logged in.
    type: str
  commitments:
    description: Commitments (C(c:…)) whose values are erased, such as those of a diff.
    type: list
    elements: str
  reason:
    description: Why; it is recorded, so it must not hold what is erased.
    type: str
    required: true
attributes:
  check_mode:
    support: full
    details: Tells how many values would be erased.
  diff_mode:
    support: none
    details: What is erased is not shown.
  idempotent:
    support: full
    details: What was erased is not erased again.
"""

EXAMPLES = r"""
- name: Make the runs of an operator who has left anonymous
  flowaudit.ops.trail_erase:
    account: jdoe
    reason: request 2026-17 of the data protection officer
"""

RETURN = r"""
erased:
  description: The commitments whose values were erased.
  type: list
  elements: str
  returned: success
"""

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.trail import arguments, erasure


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "directory": arguments.DIRECTORY,
            "account": {"type": "str"},
            "commitments": {"type": "list", "elements": "str"},
            "reason": {"type": "str", "required": True},
        },
        required_one_of=[("account", "commitments")],
        supports_check_mode=True,
    )
    with arguments.opened(module) as log:
        commitments = list(module.params["commitments"] or [])
        if module.params["account"]:
            commitments += erasure.commitments_of(log, module.params["account"])
        if module.check_mode:
            erased = sorted(log.openings(commitments))
        else:
            erased = erasure.erase(log, commitments, module.params["reason"])
    module.exit_json(changed=bool(erased), erased=erased)


if __name__ == "__main__":
    main()

#!/usr/bin/python
# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: trail_backup
short_description: Back the trail and its signing key up
version_added: 0.2.0
author:
  - flowaudit.ops maintainers (@flowaudit)
description:
  - Copies the log as it is at one moment, verifies the copy, and puts the signing key beside it, encrypted with a
    passphrase. The copy appears when all of that has worked.
extends_documentation_fragment:
  - flowaudit.ops.attributes
  - flowaudit.ops.trail
options:
  backup_directory:
    description: Where the copies are, on another machine's storage; it must exist.
    type: path
    required: true
  passphrase:
    description: Passphrase of the encrypted key, at least 12 characters; without it the key of a backup is lost.
    type: str
    required: true
  keep:
    description: How many copies stay.
    type: int
    default: 14
attributes:
  check_mode:
    support: full
    details: Reports the change and copies nothing.
  diff_mode:
    support: none
    details: There is nothing to compare.
  idempotent:
    support: none
    details: Each call makes a copy.
"""

EXAMPLES = r"""
- name: Back the trail up
  flowaudit.ops.trail_backup:
    backup_directory: /mnt/nas/trail
    passphrase: "{{ vault_trail_backup_passphrase }}"
"""

RETURN = r"""
copy:
  description: The directory of the copy.
  type: str
  returned: when it is not check mode
"""

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.trail import arguments, backup


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "directory": arguments.DIRECTORY,
            "backup_directory": {"type": "path", "required": True},
            "passphrase": {"type": "str", "required": True, "no_log": True},
            "keep": {"type": "int", "default": 14},
        },
        supports_check_mode=True,
    )
    parameters = module.params
    if parameters["keep"] < 1:
        module.fail_json(msg="At least one copy of the trail is kept (keep).")
    with arguments.opened(module) as log:
        if module.check_mode:
            module.exit_json(changed=True)
        copy = backup.back_up(log, parameters["backup_directory"], parameters["passphrase"], parameters["keep"])
    module.exit_json(changed=True, copy=copy)


if __name__ == "__main__":
    main()

#!/usr/bin/python
# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: trail_rotate_key
short_description: Renew the trail's signing key
version_added: 0.2.0
author:
  - flowaudit.ops maintainers (@flowaudit)
description:
  - Makes a new key, records it in the log, signs a checkpoint by both keys and forgets the old one. Who trusts the old
    key can follow the log to the new one. A renewal that was killed is finished by the next.
  - Each call is a renewal; there is no state to compare with.
extends_documentation_fragment:
  - flowaudit.ops.attributes
  - flowaudit.ops.trail
attributes:
  check_mode:
    support: full
    details: Reports the change and makes no key.
  diff_mode:
    support: full
    details: Shows the verifier keys.
  idempotent:
    support: none
    details: Each call is a renewal.
"""

EXAMPLES = r"""
- name: Renew the trail's key
  flowaudit.ops.trail_rotate_key:
  register: renewed
"""

RETURN = r"""
key:
  description: The verifier key that is in use now; give it to those who verify the trail.
  type: str
  returned: success
"""

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.trail import arguments, rotation


def main() -> None:
    module = AnsibleModule(argument_spec={"directory": arguments.DIRECTORY}, supports_check_mode=True)
    with arguments.opened(module) as log:
        before = log.current_key()
        key = before if module.check_mode else str(rotation.rotate(log))
    module.exit_json(changed=True, key=key, diff={"before": f"{before}\n", "after": f"{key}\n"})


if __name__ == "__main__":
    main()

#!/usr/bin/python
# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: edge_user_info
short_description: List the users of the edge's seminar mode
version_added: 0.2.0
author:
  - flowaudit.ops maintainers (@flowaudit)
description:
  - Lists the users who may pass the edge with a password or a bearer token, without the hashes of either.
options:
  directory:
    description:
      - Directory of the files C(passwords), C(roles) and C(tokens), which the role P(flowaudit.ops.edge#role) makes.
    type: path
    default: /etc/flowaudit/edge/auth/users
extends_documentation_fragment:
  - flowaudit.ops.attributes
  - flowaudit.ops.attributes.reads
seealso:
  - module: flowaudit.ops.edge_user
"""

EXAMPLES = r"""
- name: Ask who may pass
  flowaudit.ops.edge_user_info:
  register: users

- name: Show the administrators
  ansible.builtin.debug:
    msg: "{{ users.users | selectattr('role', 'eq', 'admin') | map(attribute='name') }}"
"""

RETURN = r"""
users:
  description: The users, by name.
  type: list
  elements: dict
  returned: success
  contains:
    name:
      description: Name of the user.
      type: str
      sample: anna
    role:
      description: Role of the user; empty when there is none.
      type: str
      sample: trainer
    has_password:
      description: Whether the user can come with a password.
      type: bool
    has_token:
      description: Whether the user can come with a token. One with neither is what an interrupted run left.
      type: bool
"""

from ansible.module_utils.basic import AnsibleModule

from ..module_utils import edge_user_files
from ..module_utils.errors import FlowauditError


def main() -> None:
    module = AnsibleModule(
        argument_spec={"directory": {"type": "path", "default": "/etc/flowaudit/edge/auth/users"}},
        supports_check_mode=True,
    )
    directory = module.params["directory"]
    try:
        with edge_user_files.locked(directory):
            users = edge_user_files.read(directory)
    except FlowauditError as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=False, users=users.accounts())


if __name__ == "__main__":
    main()

#!/usr/bin/python
# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: edge_user
short_description: Add, change and remove users of the edge's seminar mode
version_added: 0.2.0
author:
  - flowaudit.ops maintainers (@flowaudit)
description:
  - Keeps the users who may pass the edge with a password or a bearer token, and their roles.
  - The authentication reads its files at each request, so a change counts at once and nothing is restarted.
  - Each file is replaced as a whole, in an order in which an interrupted run grants nothing that neither the state
    before nor the one after it grants.
  - A line that this module does not know is never dropped. The module fails and names it.
requirements:
  - bcrypt (Debian package python3-bcrypt) on the host, when O(password) is given
options:
  name:
    description:
      - Name of the user, up to 64 lower-case letters, digits, C(.), C(_) and C(-), the first of them a letter or digit.
    type: str
    required: true
  state:
    description:
      - Whether there is such a user.
    type: str
    choices: [present, absent]
    default: present
  role:
    description:
      - Role of the user, one of O(roles). A new user needs one; the role of a known user stays without it.
      - The token of the user changes its role too.
    type: str
  roles:
    description:
      - The roles there are.
    type: list
    elements: str
  password:
    description:
      - Password of the user, of O(password_minimum) characters or more, and at most 72 bytes, as bcrypt reads no more.
      - Without it, the password stays as it is. A new user without a password needs a token.
    type: str
  password_minimum:
    description:
      - How many characters a password must have, from V(8) to V(72).
    type: int
    default: 12
  cost:
    description:
      - Cost of the bcrypt hash, from V(10) to V(14). Each step doubles the time a request with a password takes.
      - A known password whose hash has another cost is hashed anew.
    type: int
    default: 10
  token:
    description:
      - V(keep) leaves the token as it is.
      - V(new) makes a bearer token, each time, in the place of the one there may be; the module returns it once, and
        only its SHA-256 stays on the host.
      - V(absent) removes it.
    type: str
    choices: [keep, new, absent]
    default: keep
  directory:
    description:
      - Directory of the files C(passwords), C(roles) and C(tokens), which the role P(flowaudit.ops.edge#role) makes.
    type: path
    default: /etc/flowaudit/edge/auth/users
extends_documentation_fragment:
  - flowaudit.ops.attributes
attributes:
  check_mode:
    support: full
    details: Makes no token.
  diff_mode:
    support: full
    details: Shows the user's role, and whether there is a password and a token, but no hash.
  idempotent:
    support: partial
    details: With O(token=new) each run makes a new token.
notes:
  - The returned token is a secret. A task that makes one needs C(no_log=true), or it stands in the output and in every
    log a callback writes. Write it where it is to be, such as a file with mode 0600, with C(no_log=true) there too.
seealso:
  - module: flowaudit.ops.edge_user_info
"""

EXAMPLES = r"""
- name: Have a trainer with a password
  flowaudit.ops.edge_user:
    name: anna
    role: trainer
    roles: "{{ edge_roles }}"
    password: "{{ vault_password_anna }}"

- name: Give a program a token
  flowaudit.ops.edge_user:
    name: importer
    role: user
    roles: "{{ edge_roles }}"
    token: new
  register: importer
  no_log: true

- name: Have a user no longer
  flowaudit.ops.edge_user:
    name: anna
    state: absent
"""

RETURN = r"""
user:
  description: The user as it is now, or would be; empty when there is none.
  type: dict
  returned: success
  sample: {"name": "anna", "role": "trainer", "has_password": true, "has_token": false}
token:
  description: The new token, a secret, which is shown nowhere again.
  type: str
  returned: with O(token=new), but not in check mode
"""

import hashlib
import secrets
import traceback
import typing as t

from ansible.module_utils.basic import AnsibleModule, missing_required_lib

from ..module_utils import edge_user_files, edge_users
from ..module_utils.errors import FlowauditError

try:
    import bcrypt
except ImportError:
    BCRYPT_ERROR: str | None = traceback.format_exc()
else:
    BCRYPT_ERROR = None


def hash_password(password: str, cost: int) -> str:
    """A hash as Apache writes them: what bcrypt calls 2b is 2y there."""
    made: str = bcrypt.hashpw(password.encode(), bcrypt.gensalt(cost)).decode("ascii")
    return made.replace("$2b$", "$2y$", 1)


def is_current(password: str, cost: int, known: str | None) -> bool:
    """Whether a hash is the one of this password, made with this cost, as this module makes them."""
    if known is None or not known.startswith("$2y$") or edge_users.cost(known) != cost:
        return False
    return bool(bcrypt.checkpw(password.encode(), known.encode("ascii")))


def password_hash(module: AnsibleModule, known: str | None) -> str | None:
    """The hash the user shall have."""
    password, cost = module.params["password"], module.params["cost"]
    if password is None:
        return known
    if BCRYPT_ERROR is not None:
        if module.check_mode:
            return ""  # a package that a real run installs before is not there yet
        module.fail_json(msg=missing_required_lib("bcrypt"), exception=BCRYPT_ERROR)
    return known if is_current(password, cost, known) else hash_password(password, cost)


def wanted(module: AnsibleModule, before: edge_users.Users) -> tuple[edge_users.Users, str | None]:
    """The users as they shall be, and the token that was made for one."""
    parameters = module.params
    name = parameters["name"]
    if parameters["state"] == "absent":
        return edge_users.without(before, name), None
    token = secrets.token_urlsafe(32) if parameters["token"] == "new" else None
    digest: str | None = None
    if token is not None:
        digest = hashlib.sha256(token.encode("ascii")).hexdigest()
    elif parameters["token"] == "keep" and name in before.tokens:
        digest = before.tokens[name].digest
    made = password_hash(module, before.passwords.get(name))
    return edge_users.with_user(before, name, parameters["role"], made, digest), token


def run(module: AnsibleModule) -> None:
    parameters = module.params
    name, directory = parameters["name"], parameters["directory"]
    edge_users.check_request(
        name, parameters["role"], parameters["roles"] or [], parameters["password"], parameters["password_minimum"]
    )
    if not 10 <= parameters["cost"] <= 14:
        raise FlowauditError(f"cost is {parameters['cost']}; give a number from 10 to 14.")

    with edge_user_files.locked(directory):
        before = edge_user_files.read(directory)
        after, token = wanted(module, before)
        steps = list(edge_users.steps(before, after, name))
        if not module.check_mode:
            for file, text in steps:
                edge_user_files.replace(directory, file, text, module.atomic_move)

    new = []
    if before.passwords.get(name) != after.passwords.get(name):
        new.append("password")
    if token is not None:
        new.append("token")
    result: dict[str, t.Any] = {"changed": len(steps) > 0, "user": after.account(name) or {}}
    if token is not None and not module.check_mode:
        result["token"] = token
    diff = {
        "before_header": f"user {name}",
        "after_header": f"user {name}",
        "before": edge_users.describe(before.account(name)),
        "after": edge_users.describe(after.account(name), new),
    }
    module.exit_json(**result, diff=diff)


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "role": {"type": "str"},
            "roles": {"type": "list", "elements": "str"},
            "password": {"type": "str", "no_log": True},
            "password_minimum": {"type": "int", "default": 12, "no_log": False},
            "cost": {"type": "int", "default": 10},
            "token": {"type": "str", "choices": ["keep", "new", "absent"], "default": "keep", "no_log": False},
            "directory": {"type": "path", "default": "/etc/flowaudit/edge/auth/users"},
        },
        required_by={"role": ["roles"]},
        supports_check_mode=True,
    )
    try:
        run(module)
    except FlowauditError as error:
        module.fail_json(msg=str(error))


if __name__ == "__main__":
    main()

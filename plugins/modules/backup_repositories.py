#!/usr/bin/python
# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: backup_repositories
short_description: Have the repositories of a host's backups on its targets
version_added: 0.5.0
author:
  - flowaudit.ops maintainers (@flowaudit)
description:
  - Makes the restic repositories that are missing on each target, and lets the passwords of others open them. Those
    that are there stay as they are; a key can be taken away on the target only.
  - Fails when a target cannot be reached or a repository opens with another password.
options:
  keys:
    description:
      - Who else may open the repositories, each with the file on the host that holds the password.
      - The key V(prune) is the target's own, to forget what was kept long enough.
    type: dict
    default: {prune: /etc/flowaudit/backup/prune_password}
extends_documentation_fragment:
  - flowaudit.ops.backup
  - flowaudit.ops.attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
    details: Lists the repositories that are made.
  idempotent:
    support: full
seealso:
  - module: flowaudit.ops.backup
"""

EXAMPLES = r"""
- name: Have the repositories
  flowaudit.ops.backup_repositories:
"""

RETURN = r"""
repositories:
  description: The repositories there are to be.
  returned: success
  type: list
  elements: str
  sample: [postgres on nas, chroma on nas, uploads on nas, config on nas]
created:
  description: The repositories that were made.
  returned: success
  type: list
  elements: str
  sample: [postgres on nas]
keys_added:
  description: The keys that were added, and to which repository.
  returned: success
  type: list
  elements: str
  sample: [prune to postgres on nas]
"""

import concurrent.futures
import typing as t
from collections.abc import Mapping

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.backup import settings
from ..module_utils.backup.jobs import Jobs
from ..module_utils.backup.program import run as run_program
from ..module_utils.backup.restic import Repository
from ..module_utils.errors import FlowauditError


def run(jobs: Jobs, keys: Mapping[str, str], *, predict: bool) -> dict[str, t.Any]:
    """Make what is missing; the module's result.

    Raises:
        FlowauditError: a target cannot be reached, or a repository has another password.
    """
    repositories = list(jobs.repositories())
    # Each question is a connection of its own: side by side they take as long as one.
    with concurrent.futures.ThreadPoolExecutor(len(settings.REPOSITORIES)) as pool:
        known = dict(zip(repositories, pool.map(Repository.key_names, repositories), strict=True))
    missing = [each for each in repositories if known[each] is None]
    added = [(name, each) for each in repositories for name in keys if name not in (known[each] or [])]
    if not predict:
        firsts = {each.name: each for each in repositories if each.target == jobs.settings.targets[0]}
        for each in missing:
            each.create(like=firsts[each.name] if firsts[each.name] is not each else None)
        for name, each in added:
            each.add_key(keys[name], name)
    after = "".join(f"{each}\n" for each in missing)
    return {
        "changed": bool(missing or added),
        "repositories": [str(each) for each in repositories],
        "created": [str(each) for each in missing],
        "keys_added": [f"{name} to {each}" for name, each in added],
        "diff": {"before": "", "after": after},
    }


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "settings": {"type": "path", "default": settings.PATH},
            "keys": {
                "type": "dict",
                "default": {"prune": "/etc/flowaudit/backup/prune_password"},
                "no_log": False,
            },
        },
        supports_check_mode=True,
    )
    try:
        jobs = Jobs(settings.load(module.params["settings"]), run_program)
        result = run(jobs, module.params["keys"], predict=module.check_mode)
    except (FlowauditError, OSError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(**result)


if __name__ == "__main__":
    main()

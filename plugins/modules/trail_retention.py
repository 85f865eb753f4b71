#!/usr/bin/python
# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: trail_retention
short_description: Archive old entries of the trail, and delete them when their time is over
version_added: 0.2.0
author:
  - flowaudit.ops maintainers (@flowaudit)
description:
  - Moves entries older than O(archive_after_days) into files below O(archive_directory), each proven to hold what the
    log held before the log lets go of it, and deletes archive files older than O(delete_after_days) with the personal
    data that belongs to them.
  - The leaf hashes stay in the log for ever, so it verifies as before; M(flowaudit.ops.trail_verify) says how many
    entries are gone. Entries that are needed to verify the others (keys, erasures, retention) stay.
extends_documentation_fragment:
  - flowaudit.ops.attributes
  - flowaudit.ops.trail
options:
  archive_directory:
    description: Where the archive files are; it must exist.
    type: path
    required: true
  archive_after_days:
    description: Age in days at which an entry leaves the log.
    type: int
    default: 90
  delete_after_days:
    description: Age in days at which an archive file is deleted.
    type: int
    default: 365
  database:
    description:
      - Connection string of the shared PostgreSQL database, without a password. There entries stay until their archive
        file is deleted, and are deleted then.
    type: str
    default: ""
attributes:
  check_mode:
    support: full
    details: Tells whether something is due.
  diff_mode:
    support: none
    details: There is nothing to compare.
  idempotent:
    support: full
    details: Does what is due, and nothing when nothing is.
"""

EXAMPLES = r"""
- name: Keep three months at hand and a year in the archive
  flowaudit.ops.trail_retention:
    archive_directory: /srv/archive/trail
"""

RETURN = r"""
archived:
  description: The files that were made, with the first and the last of their entries.
  type: list
  elements: dict
  returned: success
deleted:
  description: The files that were deleted, with the first and the last of their entries.
  type: list
  elements: dict
  returned: success
"""

import os
import time
import typing as t

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.trail import archive, arguments, entry, postgres
from ..module_utils.trail.sqlite import SqliteLog

_DAY = 86400  # seconds


def run(log: SqliteLog, parameters: dict[str, t.Any], check_mode: bool) -> dict[str, t.Any]:
    """What the module returns."""
    directory = parameters["archive_directory"]
    now = time.time()
    leave, delete = (
        entry.timestamp(now - parameters[option] * _DAY) for option in ("archive_after_days", "delete_after_days")
    )
    if check_mode:
        archived, deleted = archive.due(log, leave), archive.over(log, directory, delete)
    else:
        if parameters["database"]:
            # What is archived before it was sent reaches the shared trail as a hash only.
            with postgres.connected(parameters["database"], log.origin) as shared:
                shared.ship(log)
        archived, deleted = archive.archive(log, directory, leave), archive.prune(log, directory, delete)
        if parameters["database"] and deleted:
            with postgres.connected(parameters["database"], log.origin) as shared:
                shared.prune(archive.pruned_until(log))
    told = [
        [{"file": item.file, "first": item.first, "last": item.last} for item in some] for some in (archived, deleted)
    ]
    return {"changed": bool(archived or deleted), "archived": told[0], "deleted": told[1]}


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "directory": arguments.DIRECTORY,
            "archive_directory": {"type": "path", "required": True},
            "archive_after_days": {"type": "int", "default": 90},
            "delete_after_days": {"type": "int", "default": 365},
            "database": {"type": "str", "default": ""},
        },
        supports_check_mode=True,
    )
    directory = module.params["archive_directory"]
    if not os.path.isdir(directory):
        module.fail_json(msg=f"There is no directory {directory} for the trail's archive; mount it, or make it.")
    if not 0 < module.params["archive_after_days"] <= module.params["delete_after_days"]:
        module.fail_json(
            msg="An entry is archived first and deleted later: 0 < archive_after_days <= delete_after_days."
        )
    with arguments.opened(module) as log:
        result = run(log, module.params, module.check_mode)
    module.exit_json(**result)


if __name__ == "__main__":
    main()

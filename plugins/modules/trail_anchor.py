#!/usr/bin/python
# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: trail_anchor
short_description: Sign the trail and tell its anchors
version_added: 0.2.0
author:
  - flowaudit.ops maintainers (@flowaudit)
description:
  - Records the runs that were killed as aborted, signs a checkpoint over the log, tells every anchor of it and ships
    the entries to the shared database. Each run does that at its end; do it hourly besides, so that what is written by
    a run that was killed, and the absence of runs, is anchored too.
  - Fails when an anchor could not be told; the others then were. The attempt is an entry of the log either way.
extends_documentation_fragment:
  - flowaudit.ops.attributes
  - flowaudit.ops.trail
options:
  syslog:
    description: Syslog server, as of the callback P(flowaudit.ops.trail#callback).
    type: str
    default: ""
  syslog_ca:
    description: CA bundle of the syslog server.
    type: path
    default: ""
  syslog_certificate:
    description: Certificate (PEM) that is shown to the syslog server.
    type: path
    default: ""
  syslog_key:
    description: Private key (PEM) of O(syslog_certificate), when it is not in the same file.
    type: path
    default: ""
  worm_directory:
    description: Directory that each checkpoint is put into as a new file.
    type: path
    default: ""
  timestamp_url:
    description: Time-stamping authority (RFC 3161).
    type: str
    default: ""
  timestamp_ca:
    description: CA certificate of the time-stamping authority.
    type: path
    default: ""
  database:
    description: Connection string of the shared PostgreSQL database, without a password.
    type: str
    default: ""
attributes:
  check_mode:
    support: full
    details: Signs nothing and tells nobody; a checkpoint would be made.
  diff_mode:
    support: none
    details: There is nothing to compare.
  idempotent:
    support: none
    details: Signs anew each time it is called.
"""

EXAMPLES = r"""
- name: Anchor the trail
  flowaudit.ops.trail_anchor:
    syslog: tls://siem.example.org:6514
    worm_directory: /srv/worm/trail
"""

RETURN = r"""
size:
  description: Entries that the checkpoint covers.
  type: int
  returned: success
checkpoint:
  description: The signed checkpoint.
  type: str
  returned: when it is not check mode
closed_runs:
  description: Ids of the runs that were recorded as aborted.
  type: list
  elements: str
  returned: success
results:
  description: What came of each anchor.
  type: list
  elements: dict
  returned: when it is not check mode
  contains:
    keeper:
      description: Which anchor.
      type: str
    kept:
      description: Whether it has the checkpoint.
      type: bool
    detail:
      description: Where it is kept, or why not.
      type: str
"""

import dataclasses
import os
import typing as t

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.trail import anchors, arguments, publish
from ..module_utils.trail.checkpoint import parse
from ..module_utils.trail.run import close_dead_runs
from ..module_utils.trail.sqlite import SqliteLog


def run(log: SqliteLog, publishing: publish.Publishing, check_mode: bool) -> dict[str, t.Any]:
    """What the module returns."""
    if check_mode:
        return {"changed": True, "size": log.size(), "closed_runs": []}
    closed = close_dead_runs(log)
    results = [dataclasses.asdict(outcome) for outcome in publish.publish(log, publishing)]
    checkpoint = list(log.checkpoints())[-1]
    size = parse(checkpoint).size
    return {"changed": True, "size": size, "checkpoint": checkpoint, "closed_runs": closed, "results": results}


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "directory": arguments.DIRECTORY,
            "syslog": {"type": "str", "default": ""},
            "syslog_ca": {"type": "path", "default": ""},
            "syslog_certificate": {"type": "path", "default": ""},
            "syslog_key": {"type": "path", "default": "", "no_log": False},
            "worm_directory": {"type": "path", "default": ""},
            "timestamp_url": {"type": "str", "default": ""},
            "timestamp_ca": {"type": "path", "default": ""},
            "database": {"type": "str", "default": ""},
        },
        supports_check_mode=True,
    )
    chosen = {key: value for key, value in module.params.items() if key not in ("directory", "database")}
    kept_beside = os.path.join(module.params["directory"], "timestamps")
    settings = anchors.Settings(**chosen, timestamp_directory=kept_beside)
    with arguments.opened(module) as log:
        result = run(log, publish.Publishing(module.params["database"], settings), module.check_mode)
    failed = [f"{item['keeper']}: {item['detail']}" for item in result.get("results", []) if not item["kept"]]
    if failed:
        module.fail_json(msg=f"Not every anchor of the trail has the checkpoint. {' '.join(failed)}", **result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()

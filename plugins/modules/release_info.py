#!/usr/bin/python
# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: release_info
short_description: Read which releases a host has and which one serves
version_added: 0.1.0
author:
  - flowaudit.ops maintainers (@flowaudit)
description:
  - Reads the records the module M(flowaudit.ops.release) keeps on a host.
options:
  state_directory:
    description:
      - Directory of the records.
    type: path
    default: /var/lib/flowaudit
extends_documentation_fragment:
  - flowaudit.ops.attributes
  - flowaudit.ops.attributes.reads
seealso:
  - module: flowaudit.ops.release
"""

EXAMPLES = r"""
- name: Read which release serves
  flowaudit.ops.release_info:
  register: releases

- name: Show it
  ansible.builtin.debug:
    msg: "{{ releases.current.release_id }} serves in {{ releases.current.colour }}"
"""

RETURN = r"""
current:
  description: The release that serves (C(release_id), C(colour)); empty before the first one.
  type: dict
  returned: always
  sample: {"release_id": "1.1.0", "colour": "green"}
previous:
  description: The one that was deployed before it, where a rollback leads; empty for none.
  type: dict
  returned: always
  sample: {"release_id": "1.0.0", "colour": "blue"}
spare:
  description: The colour the next release comes to.
  type: str
  returned: always
  sample: blue
releases:
  description: The record of every release on the host, the newest deployment first.
  type: list
  elements: dict
  returned: always
  sample:
    - release_id: 1.1.0
      colour: green
      git_commit: 3f0c2a9
      migration_class: expand
      schema_before: "0001"
      schema_head: "0002"
      restore_point: pre-1.1.0-20260131T120000Z
      change_id: CHG-2026-0042
      actor: ada
      deployed_at: "2026-01-31T12:00:00Z"
problems:
  description: A sentence for each record that is none, or was changed by somebody else.
  type: list
  elements: str
  returned: always
  sample: []
under_way:
  description: The change of release that is being made right now, or was interrupted; empty for none.
  type: str
  returned: always
  sample: deploy of 1.1.0 by ada, since 2026-01-31T12:00:00Z, at step migrate
interrupted:
  description: The same, as C(action) (V(deploy) or V(rollback)) and C(release_id) that is to serve; empty for none.
  type: dict
  returned: always
  sample: {}
locked:
  description: Whether somebody is changing the release right now.
  type: bool
  returned: always
  sample: false
"""

import dataclasses
import typing as t

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.errors import FlowauditError
from ..module_utils.release.records import Pointer, Records


def run(records: Records) -> dict[str, t.Any]:
    current, previous, journal = records.current(), records.previous(), records.journal()
    found, problems = records.manifests()
    found.sort(key=lambda each: each.deployed_at, reverse=True)
    return {
        "current": _plain(current),
        "previous": _plain(previous),
        "spare": "green" if current is None or current.colour == "blue" else "blue",
        "releases": [each.document() for each in found],
        "problems": problems,
        "under_way": journal.describe() if journal else "",
        "interrupted": {"action": journal.action, "release_id": journal.target.release_id} if journal else {},
        "locked": records.locked(),
    }


def _plain(pointer: Pointer | None) -> dict[str, str]:
    return dataclasses.asdict(pointer) if pointer else {}


def main() -> None:
    module = AnsibleModule(
        argument_spec={"state_directory": {"type": "path", "default": "/var/lib/flowaudit"}},
        supports_check_mode=True,
    )
    try:
        module.exit_json(changed=False, **run(Records(module.params["state_directory"])))
    except FlowauditError as error:
        module.fail_json(msg=str(error))


if __name__ == "__main__":
    main()

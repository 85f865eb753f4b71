#!/usr/bin/python
# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: restore_files
short_description: Bring files or vectors of a host back to a moment
version_added: 0.5.0
author:
  - flowaudit.ops maintainers (@flowaudit)
description:
  - Brings an uploaded file, a directory or the vectors back from the target. What is overwritten or removed by that is
    kept on the host, so that a restore can itself be taken back.
  - Vectors are proved in a Chroma of their own first; documents that are newer are indexed again afterwards.
options:
  path:
    description:
      - What is wanted, below one of the directories that are saved. Exclusive with O(vectors).
    type: path
  vectors:
    description:
      - Bring Chroma's vectors back.
    type: bool
    default: false
  time:
    description:
      - V(latest), or a time with its zone such as V(2026-11-21 14:03:00+01:00); the last backup before it counts.
    type: str
    default: latest
  exact:
    description:
      - Also remove what was not there then.
    type: bool
    default: false
extends_documentation_fragment:
  - flowaudit.ops.backup
  - flowaudit.ops.attributes
attributes:
  check_mode:
    support: full
    details: Fetches the files beside those that are there, and says which differ.
  diff_mode:
    support: full
    details: Lists the files that are written or removed.
  idempotent:
    support: partial
    details: Files that are as they were then stay; vectors are brought back each time.
seealso:
  - module: flowaudit.ops.restore_database
"""

EXAMPLES = r"""
- name: Bring back a file somebody deleted
  flowaudit.ops.restore_files:
    path: /data/uploads/4c/4c1f0a6e.pdf
    time: "2026-11-21 14:03:00+01:00"

- name: Bring back the vectors of last night
  flowaudit.ops.restore_files:
    vectors: true
"""

RETURN = r"""
taken_at:
  description: When the backup was taken.
  returned: success
  type: str
  sample: "2026-11-21T12:45:03Z"
files:
  description: The files that were written, below O(path).
  returned: success
  type: list
  elements: str
  sample: [4c1f0a6e.pdf]
removed:
  description: The files that were removed, with O(exact=true).
  returned: success
  type: list
  elements: str
  sample: []
kept:
  description: Directory on the host with what is there no more; empty for none.
  returned: success
  type: str
  sample: /data/restore/kept-files-20261121T140012Z
vectors:
  description: Collection to how many vectors it has.
  returned: success
  type: dict
  sample: {"default_database/documents": 5120}
"""

import dataclasses
import typing as t

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.backup import bring_back, settings
from ..module_utils.backup.jobs import Jobs
from ..module_utils.backup.program import run as run_program
from ..module_utils.errors import FlowauditError


def run(jobs: Jobs, parameters: dict[str, t.Any], *, predict: bool) -> dict[str, t.Any]:
    """Bring it back; the module's result.

    Raises:
        FlowauditError: it was not.
    """
    if parameters["vectors"]:
        outcome = bring_back.vectors(jobs, parameters["time"], predict=predict)
        changed = True
    else:
        outcome = bring_back.files(
            jobs, run_program, parameters["path"], parameters["time"], exact=parameters["exact"], predict=predict
        )
        changed = bool(outcome.files or outcome.removed)
    before = "".join(f"{name}\n" for name in outcome.removed)
    after = "".join(f"{name}\n" for name in outcome.files)
    return {"changed": changed, "diff": {"before": before, "after": after}, **dataclasses.asdict(outcome)}


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "settings": {"type": "path", "default": settings.PATH},
            "path": {"type": "path"},
            "vectors": {"type": "bool", "default": False},
            "time": {"type": "str", "default": "latest"},
            "exact": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    if bool(module.params["path"]) == module.params["vectors"]:
        module.fail_json(msg="Give either path or vectors=true.")
    try:
        jobs = Jobs(settings.load(module.params["settings"]), run_program)
        result = run(jobs, module.params, predict=module.check_mode)
    except (FlowauditError, OSError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(**result)


if __name__ == "__main__":
    main()

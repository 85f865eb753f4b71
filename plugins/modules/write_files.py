#!/usr/bin/python
# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: write_files
short_description: Write many small text files in one task
version_added: 0.1.0
author:
  - flowaudit.ops maintainers (@flowaudit)
description:
  - Writes text files whole, with their directories, in one round trip to the host.
  - For a role that keeps dozens of small files; a loop over M(ansible.builtin.template) takes two round trips each.
  - Every file belongs to the user the module runs as. Each is replaced atomically, and only when it differs.
options:
  files:
    description:
      - The files.
    type: list
    elements: dict
    required: true
    suboptions:
      path:
        description:
          - Absolute path. Directories that are missing are made, readable by everyone.
        type: path
        required: true
      content:
        description:
          - The whole content.
        type: str
        required: true
      mode:
        description:
          - Permissions, as an octal number in quotation marks.
        type: str
        default: "0644"
      validate:
        description:
          - Command that must succeed before the file is replaced, with C(%s) for the new one.
        type: str
extends_documentation_fragment:
  - flowaudit.ops.attributes
attributes:
  check_mode:
    support: full
    details: Validation needs the new file and is left out.
  diff_mode:
    support: full
    details: Shows each file that differs.
  idempotent:
    support: full
"""

EXAMPLES = r"""
- name: Write two drop-ins
  flowaudit.ops.write_files:
    files:
      - path: /etc/security/limits.d/site.conf
        content: |
          * hard core 0
      - path: /etc/sudoers.d/site
        content: "{{ lookup('ansible.builtin.template', 'sudoers.j2') }}"
        mode: "0440"
        validate: visudo --check --file=%s
"""

RETURN = r"""
written:
  description: Paths of the files that were, or in check mode would be, replaced or given other permissions.
  type: list
  elements: str
  returned: always
  sample: [/etc/security/limits.d/site.conf]
"""

import os
import shlex
import stat
import tempfile
import typing as t

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.errors import FlowauditError


def current(path: str) -> tuple[str | None, int | None]:
    """Content and permissions of the file of the user we are; (None, None) when there is none to keep."""
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            status = os.fstat(file.fileno())
            content = file.read()
    except FileNotFoundError:
        return None, None
    except IsADirectoryError as error:
        raise FlowauditError(f"{path} is a directory; remove it, or name another file.") from error
    return content, stat.S_IMODE(status.st_mode) if status.st_uid == os.geteuid() else None


def permissions(file: dict[str, t.Any]) -> int:
    try:
        return int(file["mode"], 8)
    except ValueError as error:
        raise FlowauditError(
            f"{file['path']} has the mode {file['mode']!r}; write an octal number, such as '0644'."
        ) from error


def replace(module: AnsibleModule, file: dict[str, t.Any], mode: int) -> None:
    directory = os.path.dirname(file["path"])
    missing = directory
    made = []
    while not os.path.isdir(missing):
        made.append(missing)
        missing = os.path.dirname(missing)
    for path in reversed(made):
        os.mkdir(path)
        os.chmod(path, 0o755)
    # Beside its target, so that the rename is one; hidden, so that no reader of a drop-in directory takes it.
    handle, new = tempfile.mkstemp(prefix=".", suffix=".new", dir=directory)
    try:
        with open(handle, "w", encoding="utf-8", errors="surrogateescape") as stream:
            stream.write(file["content"])
        os.chmod(new, mode)
        if file["validate"]:
            status, output, errors = module.run_command(
                [part.replace("%s", new) for part in shlex.split(file["validate"])]
            )
            if status != 0:
                said = (errors or output).strip()
                raise FlowauditError(
                    f"{file['path']} stays as it is: {file['validate']} refuses the new content: {said}"
                )
        os.replace(new, file["path"])
    finally:
        if os.path.exists(new):
            os.remove(new)


def run(module: AnsibleModule) -> None:
    written, diffs = [], []
    for file in module.params["files"]:
        mode = permissions(file)
        content, was = current(file["path"])
        if (content, was) == (file["content"], mode):
            continue
        written.append(file["path"])
        if content != file["content"]:
            diffs.append(
                {
                    "before_header": file["path"] if content is not None else "",
                    "before": content or "",
                    "after_header": file["path"],
                    "after": file["content"],
                }
            )
        else:
            diffs.append({"prepared": f"{file['path']}: permissions become {mode:04o}\n"})
        if not module.check_mode:
            replace(module, file, mode)
    module.exit_json(changed=bool(written), written=written, diff=diffs)


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "files": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {
                    "path": {"type": "path", "required": True},
                    "content": {"type": "str", "required": True},
                    "mode": {"type": "str", "default": "0644"},
                    "validate": {"type": "str"},
                },
            },
        },
        supports_check_mode=True,
    )
    try:
        run(module)
    except FlowauditError as error:
        module.fail_json(msg=str(error))


if __name__ == "__main__":
    main()

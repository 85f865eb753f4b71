# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the modules of the trail have in common."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  directory:
    description:
      - Directory of the trail, as the callback P(flowaudit.ops.trail#callback) has it.
      - The environment variable E(FLOWAUDIT_TRAIL_DIRECTORY) takes the place of the default.
    type: path
    default: ~/.local/state/flowaudit/trail
requirements:
  - cryptography
notes:
  - It runs where the trail is, on the control node. Write C(hosts=localhost) and C(connection=local).
seealso:
  - name: The trail
    description: What it proves, and what it does not.
    link: https://github.com/flowaudit/ops/blob/main/docs/trail.md
"""

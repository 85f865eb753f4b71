# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations


class ModuleDocFragment:
    """What the modules about changes have in common."""

    DOCUMENTATION = r"""
options:
  inventory:
    description:
      - The protected inventory; its C(gate.yml), the directory that it is in, or a directory of inventories of which
        one has the change, or is the only one that is protected.
    type: path
    required: true
requirements:
  - ssh-keygen (OpenSSH 8.9 or newer)
  - git
  - python-dateutil
  - PyYAML
"""

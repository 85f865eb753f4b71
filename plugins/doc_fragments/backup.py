# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the modules of the backups have in common."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  settings:
    description:
      - File on the host with the settings, which the role P(flowaudit.ops.backup#role) writes.
    type: path
    default: /etc/flowaudit/backup/settings.json
"""

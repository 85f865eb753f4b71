# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What modules say of themselves in the same words; a module adds its support and details."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options: {}
attributes:
  check_mode:
    description: Says in check mode whether it would change something, and changes nothing.
  diff_mode:
    description: Shows in diff mode what changed, or would.
  idempotent:
    description: Changes nothing when run again with the same arguments.
"""

    # A module that reads: flowaudit.ops.attributes.reads, beside the one above.
    READS = r"""
options: {}
attributes:
  check_mode:
    support: full
    details: Reads only, so check mode does the same.
  diff_mode:
    support: N/A
    details: Changes nothing.
  idempotent:
    support: N/A
    details: Changes nothing.
"""

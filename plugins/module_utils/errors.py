# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The one base error of the collection."""

from __future__ import annotations


class FlowauditError(Exception):
    """Something an operator must act on; its text is one sentence and becomes the ``fail_json`` message."""

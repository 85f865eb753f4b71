# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Where the trail is when nobody says anything else; callback, modules and playbooks agree on it."""

from __future__ import annotations

DIRECTORY = "~/.local/state/flowaudit/trail"  # XDG Base Directory: what outlives a restart and is no configuration
DIRECTORY_VARIABLE = "FLOWAUDIT_TRAIL_DIRECTORY"

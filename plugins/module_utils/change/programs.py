# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The programs that the gate believes: those of the system, not what somebody has put first into PATH."""

from __future__ import annotations

import shutil

from ..errors import FlowauditError

PLACES = "/usr/local/bin:/usr/bin:/bin"
_PACKAGES = {"ssh": "openssh-client", "ssh-keygen": "openssh-client", "git": "git"}


def path(name: str) -> str:
    """Where a program is.

    Raises:
        FlowauditError: it is not installed.
    """
    found = shutil.which(name, path=PLACES)
    if found is None:
        raise FlowauditError(f"{name} is missing on the control node; install the package {_PACKAGES[name]}.")
    return found

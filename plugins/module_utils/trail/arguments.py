# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the modules of the trail that change it have in common."""

from __future__ import annotations

import contextlib
import typing as t
from collections.abc import Iterator

from ansible.module_utils.basic import AnsibleModule, env_fallback

from ..errors import FlowauditError
from . import settings
from .home import Home
from .sqlite import SqliteLog

DIRECTORY: dict[str, t.Any] = {
    "type": "path",
    "default": settings.DIRECTORY,
    "fallback": (env_fallback, [settings.DIRECTORY_VARIABLE]),
}


@contextlib.contextmanager
def opened(module: AnsibleModule, *, read_only: bool = False) -> Iterator[SqliteLog]:
    """The log of the option ``directory``; an error inside ends the module with its sentence."""
    try:
        log = SqliteLog(Home(module.params["directory"]), read_only=read_only or module.check_mode)
        try:
            yield log
        finally:
            log.close()
    except FlowauditError as error:
        module.fail_json(msg=str(error))

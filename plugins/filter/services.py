# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Filters over service maps; documented in the ``.yml`` files beside this one."""

from __future__ import annotations

import typing as t

from ansible.errors import AnsibleFilterError

from ..module_utils import services
from ..module_utils.errors import FlowauditError


def _filter(function: t.Callable[..., t.Any]) -> t.Callable[..., t.Any]:
    def wrapper(*args: t.Any, **kwargs: t.Any) -> t.Any:
        try:
            return function(*args, **kwargs)
        except FlowauditError as error:
            raise AnsibleFilterError(str(error)) from error

    return wrapper


class FilterModule:
    """The filters ``flowaudit.ops.<name>``."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {
            "capacity_problems": _filter(services.capacity_problems),
            "compose_document": _filter(services.compose_document),
            "memory_bytes": _filter(services.memory_bytes),
            "merge_services": _filter(services.merge),
            "override_problems": _filter(services.override_problems),
            "service_problems": _filter(services.service_problems),
        }

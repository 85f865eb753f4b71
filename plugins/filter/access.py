# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Filters over access policies; documented in the ``.yml`` files beside this one."""

from __future__ import annotations

import typing as t

from ..module_utils import access_policy


class FilterModule:
    """The filters ``flowaudit.ops.<name>``."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {
            "policy_problems": access_policy.policy_problems,
            "policy_routers": access_policy.policy_routers,
        }

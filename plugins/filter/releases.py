# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Filters about releases; documented in the ``.yml`` files beside this one."""

from __future__ import annotations

import typing as t
from collections.abc import Mapping

from ..module_utils.release import switch


def release_switch(public: Mapping[str, int], project: str, colour: str) -> str:
    """The switch file's text (:func:`switch.text`)."""
    return switch.text(project, colour, public)


class FilterModule:
    """The filters ``flowaudit.ops.<name>``."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {"release_switch": release_switch}

# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The playbooks of the trail use what its runs are recorded with."""

from __future__ import annotations

import pytest
from ansible.errors import AnsibleError
from ansible.plugins.loader import lookup_loader

from ansible_collections.flowaudit.ops.plugins.module_utils.trail import settings


def look(*names: str) -> list[object]:
    found: list[object] = lookup_loader.get("flowaudit.ops.trail_setting").run(list(names))
    return found


def test_what_is_not_set_is_its_default(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WORM_DIRECTORY", "ANCHOR_EVERY"):
        monkeypatch.delenv(f"FLOWAUDIT_TRAIL_{name}", raising=False)
    assert look("worm_directory", "anchor_every") == [None, 3600]


def test_the_environment_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(settings.DIRECTORY_VARIABLE, "/srv/trail")
    monkeypatch.setenv("FLOWAUDIT_TRAIL_ACCEPT_EPHEMERAL", "yes")
    assert look("directory", "accept_ephemeral") == ["/srv/trail", True]


def test_a_setting_that_there_is_not_is_an_error() -> None:
    with pytest.raises(AnsibleError, match=r"The trail has no setting color; it has accept_ephemeral, anchor_every"):
        look("directory", "color")

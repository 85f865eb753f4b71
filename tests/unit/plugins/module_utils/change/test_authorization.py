# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

import pytest

from ansible_collections.flowaudit.ops.plugins.module_utils.change import authorization


@pytest.mark.usefixtures("forgotten")
def test_a_process_knows_what_was_granted_last():
    assert authorization.granted() is None
    for name in ("CHG-2026-0042", ""):
        given = authorization.Authorization("production", name, frozenset({"h1"}), {"check": False})
        authorization.grant(given)
        assert authorization.granted() is given
    assert (given.openings, given.flags) == ((), ())

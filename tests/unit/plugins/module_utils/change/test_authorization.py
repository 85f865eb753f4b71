# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

import pytest

from ansible_collections.flowaudit.ops.plugins.module_utils.change import authorization, model
from ansible_collections.flowaudit.ops.plugins.module_utils.errors import FlowauditError

CODE = model.Code("sha256:a", "0.3.0", "sha256:b")


@pytest.mark.usefixtures("forgotten")
def test_a_process_knows_what_was_granted_last():
    assert authorization.granted() is None
    for name in ("CHG-2026-0042", ""):
        given = authorization.Authorization("production", name, frozenset({"h1"}), {"check": False})
        authorization.grant(given, "gate.yml", lambda: CODE)
        assert authorization.granted() is given
    assert (given.openings, given.flags) == ((), ())


@pytest.mark.usefixtures("forgotten")
def test_one_gate_does_not_speak_for_another():
    assert authorization.granted_by("gate.yml") is None
    given = authorization.Authorization("open", "", None, {})
    authorization.grant(given, "open/gate.yml", lambda: CODE)
    assert authorization.granted_by("open/gate.yml") is given
    with pytest.raises(FlowauditError, match=r"open/gate\.yml has let this run begin; the hosts of two gates are not"):
        authorization.granted_by("gate.yml")


@pytest.mark.usefixtures("forgotten")
def test_what_lies_there_is_compared_with_what_was_granted():
    assert authorization.same_code(), "Nothing was granted, so nothing can differ."
    there = [CODE]
    fields = {"code": {"tree": "sha256:a", "collection": "0.3.0", "collection_digest": "sha256:b"}}
    authorization.grant(authorization.Authorization("production", "", None, fields), "gate.yml", lambda: there[-1])
    assert authorization.same_code()
    there.append(model.Code("sha256:c", "0.3.0", "sha256:b"))
    assert not authorization.same_code()

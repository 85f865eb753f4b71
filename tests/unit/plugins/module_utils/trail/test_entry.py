# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a line of the log holds."""

from __future__ import annotations

import datetime
import hashlib
import os
import re
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.flowaudit.ops.plugins.module_utils.errors import FlowauditError
from ansible_collections.flowaudit.ops.plugins.module_utils.trail import canonical, entry


def test_the_first_entry_has_nothing_before_it() -> None:
    row = entry.seal({"type": "log.created"}, 0, None)
    assert row.line == b'{"prev":"' + b"0" * 64 + b'","seq":0,"type":"log.created","v":1}'
    assert row.leaf == hashlib.sha256(b"\x00" + row.line).digest()


def test_an_entry_names_the_one_before_it() -> None:
    first = entry.seal({"type": "log.created"}, 0, None)
    second = entry.seal({"type": "event", "ts": "2026-01-01T00:00:00.000Z"}, 1, first.leaf)
    value = canonical.decode(second.line or b"")
    assert value == {
        "v": 1,
        "seq": 1,
        "prev": first.leaf.hex(),
        "type": "event",
        "ts": "2026-01-01T00:00:00.000Z",
    }


def test_a_draft_cannot_say_its_own_place() -> None:
    row = entry.seal({"type": "event", "seq": 99, "prev": "x", "v": 7}, 3, bytes(32))
    assert canonical.decode(row.line or b"") == {"type": "event", "seq": 3, "prev": "0" * 64, "v": 1}


def test_what_an_entry_cannot_hold_is_refused() -> None:
    with pytest.raises(FlowauditError, match="no float"):
        entry.seal({"type": "event", "seconds": 1.5}, 0, None)


def test_what_proves_the_rest_is_kept() -> None:
    of_the_log = {"log.created", "key.rotated", "archived", "pruned", "redaction"}
    of_changes = {"policy.accepted", "run.authorized", "change.revoked", "change.reviewed"}
    of_seals = {"break_glass.sealed", "break_glass.used", "break_glass.reviewed"}
    assert of_the_log | of_changes | of_seals == entry.KEPT_FOR_EVER


@pytest.mark.parametrize(
    ("moment", "expected"),
    [
        (0, "1970-01-01T00:00:00.000Z"),
        (1767225599.9994, "2025-12-31T23:59:59.999Z"),
        (1645557742.5, "2022-02-22T19:22:22.500Z"),
    ],
)
def test_a_timestamp_is_utc_in_milliseconds(moment: float, expected: str) -> None:
    assert entry.timestamp(moment) == expected


def test_now_is_the_timestamp_when_none_is_given() -> None:
    before = datetime.datetime.now(datetime.UTC)
    stamp = entry.timestamp()
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", stamp)
    parsed = datetime.datetime.fromisoformat(stamp)
    assert abs((parsed - before).total_seconds()) < 60


def test_rfc_9562_example_of_version_7(monkeypatch: pytest.MonkeyPatch) -> None:
    """Appendix A.6: 2022-02-22 14:22:22 -05:00, rand_a CC3, rand_b 18C4DC0C0C07398F."""
    monkeypatch.setattr(os, "urandom", lambda count: bytes.fromhex("7CC398C4DC0C0C07398F"))
    assert entry.new_id(1645557742.0) == "017f22e2-79b0-7cc3-98c4-dc0c0c07398f"


def test_the_bits_of_version_and_variant_do_not_depend_on_chance(monkeypatch: pytest.MonkeyPatch) -> None:
    for chance in (bytes(10), b"\xff" * 10):
        monkeypatch.setattr(os, "urandom", lambda count, chance=chance: chance)
        made = uuid.UUID(entry.new_id(1645557742.0))
        assert (made.version, made.variant) == (7, uuid.RFC_4122)
        assert made.int >> 80 == 0x017F22E279B0


@given(st.integers(0, 2**42), st.integers(2, 2**40))
def test_ids_sort_by_their_time(moment: int, later: int) -> None:
    one, other = entry.new_id(moment / 1000), entry.new_id((moment + later) / 1000)
    # A float of seconds may miss a millisecond.
    assert abs((uuid.UUID(one).int >> 80) - moment) <= 1
    assert one < other


def test_ids_of_now_are_all_different() -> None:
    ids = {entry.new_id() for number in range(1000)}
    assert len(ids) == 1000
    assert all(uuid.UUID(made).version == 7 for made in ids)

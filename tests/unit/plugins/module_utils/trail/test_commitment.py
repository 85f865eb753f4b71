# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Values that an entry only commits to."""

from __future__ import annotations

import base64
import hashlib

from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.flowaudit.ops.plugins.module_utils.trail import commitment


@given(st.binary(max_size=100))
def test_the_commitment_is_the_hash_of_salt_and_value(value: bytes) -> None:
    opening = commitment.commit("actor", value)
    assert (opening.kind, opening.value, len(opening.salt)) == ("actor", value, 32)
    digest = hashlib.sha256(opening.salt + value).digest()
    assert opening.commitment == "c:" + base64.b64encode(digest).decode()
    assert opening.opens(opening.commitment)


def test_equal_values_do_not_show_as_equal() -> None:
    assert len({commitment.commit("actor", b"ada").commitment for number in range(100)}) == 100


def test_another_value_salt_or_type_does_not_open_it() -> None:
    opening = commitment.commit("actor", b"ada")
    for other in (
        commitment.Opening("actor", opening.salt, b"ben"),
        commitment.Opening("actor", bytes(32), b"ada"),
        commitment.Opening("actor", "x", b"ada"),  # type: ignore[arg-type]
        commitment.Opening("actor", opening.salt, None),  # type: ignore[arg-type]
    ):
        assert not other.opens(opening.commitment)

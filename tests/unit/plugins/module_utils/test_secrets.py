from __future__ import annotations

import pytest

from ansible_collections.flowaudit.ops.plugins.filter.secrets import FilterModule
from ansible_collections.flowaudit.ops.plugins.module_utils.secrets import mask


@pytest.mark.parametrize(
    ("secret", "shown"),
    [
        ("abcdefghijklmnopqrstuvwxyz", "abcd****wxyz"),
        ("0123456789abcdef", "0123****cdef"),
        ("0123456789abcde", "****"),
        ("12345678", "****"),
        ("", "****"),
        (12345678901234567890, "1234****7890"),
    ],
)
def test_a_mask_shows_the_ends_of_a_long_secret_and_nothing_of_a_short_one(secret: object, shown: str) -> None:
    assert mask(secret) == shown
    assert FilterModule().filters()["mask_secret"](secret) == shown

# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Which addresses a rule with source networks lets in."""

from __future__ import annotations

import pytest

from ansible_collections.flowaudit.ops.plugins.filter.networks import FilterModule
from ansible_collections.flowaudit.ops.plugins.module_utils.networks import in_networks, network_problems


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("192.0.2.1", True),
        ("192.0.3.1", False),
        ("198.51.100.7", True),
        ("2001:db8::1", True),
        ("2001:db9::1", False),
        ("::ffff:192.0.2.1", True),
        ("fe80::1%eth0", False),
    ],
)
def test_an_address_is_in_a_network_of_its_family(address: str, expected: bool) -> None:
    assert in_networks(address, ["192.0.2.0/24", "198.51.100.7", "2001:db8::/32"]) is expected


def test_no_network_has_an_address() -> None:
    assert not in_networks("192.0.2.1", [])


def test_what_is_no_network_is_named() -> None:
    assert network_problems(["192.0.2.0/24", "192.0.2.1/24", "office", "::/0", "10.0.0.1", 5.5]) == [
        "192.0.2.1/24",
        "office",
        "5.5",
    ]


def test_the_filters_are_these_functions() -> None:
    assert FilterModule().filters() == {"in_networks": in_networks, "network_problems": network_problems}

# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Addresses and networks as firewall rules name them. Pure: no I/O."""

from __future__ import annotations

import ipaddress
import typing as t


def network_problems(networks: t.Iterable[object]) -> list[str]:
    """Those of ``networks`` that are none, such as a host name or one with host bits set (192.0.2.1/24)."""

    def wrong(network: object) -> bool:
        try:
            ipaddress.ip_network(str(network))
        except ValueError:
            return True
        return False

    return [str(network) for network in networks if wrong(network)]


def in_networks(address: object, networks: t.Iterable[object]) -> bool:
    """Whether ``address`` is in one of ``networks``; an IPv4 address mapped into IPv6 counts as IPv4."""
    ip = ipaddress.ip_address(str(address).partition("%")[0])
    mapped = getattr(ip, "ipv4_mapped", None)
    return any((mapped or ip) in ipaddress.ip_network(str(network)) for network in networks)

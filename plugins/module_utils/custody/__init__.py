# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Custody: the control node's trail, its signing key and the hosts' CA belong to a user of their own.

Operators reach them through one socket (``client``, ``service``). Behind it every run is judged again, recorded as who
the kernel says it is, and given one certificate for the hosts of its change (``session``, ``certificate``).
"""

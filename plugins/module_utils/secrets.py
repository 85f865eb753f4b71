# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Showing that a secret is there, and which one, without showing it. Pure: no I/O."""

from __future__ import annotations


def mask(secret: object) -> str:
    """``abcd****wxyz``: the first and last four characters; of a secret shorter than 16 nothing at all.

    The operations guide (S2 2.5) masks keys from 8 characters on, which shows such a key whole. Here at least half of a
    secret stays hidden, and the number of asterisks says nothing about its length.
    """
    text = str(secret)
    return f"{text[:4]}****{text[-4:]}" if len(text) >= 16 else "****"

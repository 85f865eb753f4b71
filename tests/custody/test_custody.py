# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What custody lets run, and how it records it."""

from __future__ import annotations

from .conftest import Node


def test_an_approved_change_reaches_its_hosts(node: Node) -> None:
    change_id = node.approved()
    done = node.run("play.yml", "-e", f"change_id={change_id}", "--limit", "h1,h2")
    assert done.returncode == 0, done.stdout + node.custodian.said()
    assert node.visits() == {"h1": 1, "h2": 1, "h3": 0}

# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What an approved change lets run."""

from __future__ import annotations

from .conftest import Site


def test_an_approved_change_runs_where_it_says(site: Site) -> None:
    change_id = site.approved()
    before = site.visits()
    done = site.run("play.yml", "-e", f"change_id={change_id}", "--limit", "h1,h2")
    assert done.returncode == 0, done.stdout
    after = site.visits()
    assert after["h1"] > before["h1"] and after["h2"] > before["h2"] and after["h3"] == before["h3"]
    (granted,) = site.entries("run.authorized")
    assert granted["chg"] == change_id and granted["hosts"] == ["h1", "h2"] and granted["playbooks"] == ["play.yml"]
    assert {item["chg"] for item in site.entries("task.result")} == {change_id}

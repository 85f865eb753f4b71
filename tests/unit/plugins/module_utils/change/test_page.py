# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

from ansible_collections.flowaudit.ops.plugins.module_utils.change import gate, page

from .conftest import NOW, digest, entries, ran


def written(project, change, log=None, said=None, changed=None, language="en"):
    return page.write(project.standing(change, log), changed or {}, said or {}, language)


def test_a_change_that_was_only_requested(project):
    change = project.requested(title="Touch it\nnow", ticket="")
    text = written(project, change)
    assert text.startswith(f"# {change.id}: Touch it now\n\n| Change | {change.id} |\n| --- | --- |\n")
    assert "| State | requested |\n| Kind | normal |\n| Risk | medium |\n| Inventory | production |\n" in text
    assert "Ticket" not in text and "Release" not in text and "Variables" not in text and "Run on staging" not in text
    assert f"| Requested on | {NOW:%Y-%m-%d %H:%M} UTC |" in text
    assert f"| Document (SHA-256) | {digest(change)} |" in text
    assert "## Why\n\nIt has to be touched.\n\n## Scope\n\n- Hosts: h1, h2\n- Playbooks: play.yml\n" in text
    assert "## How it is taken back\n\nTouch it back.\n" in text
    assert text.endswith("## Approvals\n\nNobody has approved it.\n\n## What ran\n\nNothing has run.\n")


def test_what_ran_and_what_came_of_it(project, log):
    change = project.approved(scope={"variables": {"a": "x"}}, staging_run="staged", release="1.4.0")
    ran(log, change, run="tried", check=True)
    ran(log, change, run="one")
    ran(log, change, "failed", run="back", playbooks=["back.yml"], rollback=True, check=True)
    ran(log, change, "", run="two")
    text = written(project, change, log, changed={"one": 7})
    began = f"{NOW:%Y-%m-%d %H:%M} UTC"
    assert "| Run | What | Hosts | From | Until | End | Changed tasks |\n" in text
    assert f"| tried | play.yml (check mode) | h1, h2 | {began} | {began} | done | 0 |\n" in text
    assert f"| one | play.yml | h1, h2 | {began} | {began} | done | 7 |\n" in text
    assert f"| back | back.yml (check mode, rollback) | h1, h2 | {began} | {began} | failed | 0 |\n" in text
    assert f"| two | play.yml | h1, h2 | {began} |  | running | 0 |\n" in text
    assert '- Variables: a="x"\n- Run on staging: staged\n' in text and "| Release | 1.4.0 |" in text
    keys = {item.principal: item.key for item in project.standing(change).approvals}
    assert f"| Person | Key |\n| --- | --- |\n| bob@example.org | {keys['bob@example.org']} |\n" in text
    assert entries(log, "change.revoked") == []


def test_what_was_said_of_it(project):
    statement = {"principal": "bob@example.org", "reason": "Too *early*.", "at": "2026-11-21T10:00:00.000Z"}
    text = written(project, project.requested(), said={"revocation": statement, "review": {}})
    assert text.endswith("## Revoked\n\nToo \\*early\\*. (by bob@example.org on 2026-11-21T10:00:00.000Z)\n")
    assert "Reviewed" not in text


def test_in_german(project, log):
    change = project.approved("bob", kind="emergency", risk="high")
    ran(log, change)
    statement = {"principal": "bob@example.org", "reason": "Gut.", "at": "heute"}
    text = written(project, change, log, said={"review": statement}, language="de")
    assert "| Stand | ausgeführt |\n| Art | Notfall |\n| Risiko | hoch |\n" in text
    assert "## Geprüft\n\nGut. (von bob@example.org am heute)\n" in text and "State" not in text


def test_markup_of_others_stays_text(project):
    change = project.requested(title="# <b>*x*</b> | [a](b) `c` _d_ \\")
    assert f"# {change.id}: \\# \\<b\\>\\*x\\*\\</b\\> \\| \\[a\\](b) \\`c\\` \\_d\\_ \\\\\n" in written(
        project, change
    )


def test_markup_in_the_moment_of_a_statement_stays_text(project):
    change = project.requested()
    project.state(change, "revocation", at="\n\n# Approved <img src=x>")
    standing = project.standing(change)
    said = gate.stated(
        standing.filed.revocation, change, project.gate().terms.signers.encode(), "flowaudit-revocation@v1", ""
    )
    written = page.write(standing, {}, {"revocation": said})
    assert r"\# Approved \<img src=x\>" in written and "\n# Approved" not in written

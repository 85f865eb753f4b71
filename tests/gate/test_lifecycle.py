# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A change from its request to its review, by the playbooks, as persons run them."""

from __future__ import annotations

import json
import shutil
import typing as t

import pytest
import yaml

from .conftest import REQUEST, Site

LIMIT = ("--limit", "h1,h2")


def step(site: Site, name: str, person: str, *words: str, rc: int = 0, **more: t.Any) -> str:
    """A playbook of the life cycle, run by a person."""
    who = ("-e", f"change_person={person}@example.org", "-e", f"change_key={site.key(person)}")
    confirm = () if more.pop("ask", False) else ("-e", "change_confirm=false")
    done = site.run(f"flowaudit.ops.change_{name}", *who, *confirm, *words, inventory="", **more)
    assert done.returncode == rc, done.stdout
    return " ".join(done.stdout.split())


def wanted(site: Site, **more: t.Any) -> str:
    """The file that a requester writes."""
    path = site.directory / "change.yml"
    path.write_text(yaml.safe_dump({"change_request": {**REQUEST, **more}}))
    return f"@{path}"


def test_from_the_request_to_the_review(site: Site) -> None:
    said = step(site, "request", "alice", "-e", "change_inventory=inventories/production", "-e", wanted(site))
    assert "CHG-2026-0001" in said and "ssh-keygen -Y sign" in said
    change = ("-e", "change_id=CHG-2026-0001")
    assert "requested, normal, medium risk, Touch it" in step(site, "list", "alice")
    for person in ("bob", "carol"):
        step(site, "approve", person, *change)
    assert "approved, normal" in step(site, "list", "alice", "-e", "change_state=approved")
    done = site.run("play.yml", *change, *LIMIT)
    assert done.returncode == 0, done.stdout
    assert "done, normal" in step(site, "list", "alice")
    page = site.directory / "page.md"
    step(site, "report", "alice", *change, "-e", "change_language=de", "-e", f"change_file={page}")
    assert "# CHG-2026-0001: Touch it" in page.read_text() and "| Stand | ausgeführt |" in page.read_text()
    assert "| play.yml | h1, h2 |" in page.read_text() and "| ausgeführt | 2 |" in page.read_text()
    step(site, "review", "dave", *change, "-e", "change_reason='It went well.'")
    assert "reviewed, normal" in step(site, "list", "alice")
    kinds = [f"change.{kind}" for kind in ("requested", "approved", "reviewed")]
    assert [len(site.entries(kind)) for kind in kinds] == [1, 2, 1]
    assert {item["chg"] for kind in kinds for item in site.entries(kind)} == {"CHG-2026-0001"}
    assert "example.org" not in json.dumps(site.entries("change.approved"))


def test_each_step_is_taken_once(site: Site) -> None:
    change_id = site.request()
    words = ("-e", f"change_id={change_id}")
    assert "changed=1" in step(site, "approve", "bob", *words, "--check", "--diff")
    assert not (site.changes / change_id / "approvals").exists(), "Check mode writes nothing."
    assert "changed=1" in step(site, "approve", "bob", *words)
    assert "changed=0" in step(site, "approve", "bob", *words)
    assert len(site.entries("change.approved")) == 1


def test_what_a_person_may_not_do(site: Site) -> None:
    change_id = site.request()
    words = ("-e", f"change_id={change_id}")
    assert "somebody else has to approve it" in step(site, "approve", "alice", *words, rc=2)
    assert "is no key of bob@example.org" in step(
        site, "approve", "bob", *words, "-e", f"change_key={site.key('mallory')}", rc=2
    )
    assert "there is no finished run to review" in step(site, "review", "bob", *words, "-e", "change_reason=x", rc=2)
    site.playbook("play.yml", {"name": "Another", "ansible.builtin.raw": "true"})
    assert "has uncommitted changes (play.yml)" in step(site, "approve", "bob", *words, rc=2)
    site.commit()
    assert "so you have not seen it" in step(site, "approve", "bob", *words, rc=2)
    step(site, "revoke", "bob", *words, "-e", "change_reason=Wrong.")
    assert "is revoked; there is nothing to approve" in step(site, "approve", "carol", *words, rc=2)


def test_an_approval_without_a_terminal_has_to_be_meant(site: Site) -> None:
    change_id = site.request()
    said = step(site, "approve", "bob", "-e", f"change_id={change_id}", ask=True, rc=2)
    assert "Nothing was signed. Without a terminal, say -e change_confirm=false." in said
    assert not (site.changes / change_id / "approvals").exists()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"scope": {**REQUEST["scope"], "hosts": ["h9"]}}, "The scope names h9, which no host of the inventory is."),
        ({"scope": {**REQUEST["scope"], "variables": {"ansible_host": "x"}}}, "ansible_host is the inventory's to set"),
        ({"rollback": ""}, "does not say how it is taken back"),
        ({"risk": "none"}, "value of risk must be one of: low, medium, high"),
        ({"kind": "standard"}, "play.yml is not one of the playbooks that standard changes are for"),
        ({"staging_run": "0195"}, "has no run 0195 that a gate let begin"),
    ],
)
def test_requests_that_make_no_sense(site: Site, more: dict[str, t.Any], message: str) -> None:
    assert message in step(site, "request", "alice", "-e", wanted(site, **more), rc=2)
    assert not site.changes.exists()


def test_the_calendar(site: Site) -> None:
    window = {"name": "monthly", "timezone": "Europe/Berlin", "begin": "02:00", "duration": 7200}
    freeze = {"name": "end of the year", "start": "2098-12-20T00:00:00+01:00", "end": "2099-01-04T00:00:00+01:00"}
    site.gate({"windows": [{**window, "rule": "FREQ=MONTHLY;BYDAY=1SU"}], "freezes": [freeze]})
    site.commit()
    change_id = site.approved()
    directory = ("-e", f"change_directory={site.directory}", "-e", "change_language=de")
    said = step(site, "calendar", "alice", *directory)
    assert "Wartung von production am" in said and f"{change_id}: Touch it" in said
    written = (site.directory / "changes.ics").read_bytes().decode()
    assert written.startswith("BEGIN:VCALENDAR\r\n") and "SUMMARY:Wartungsfenster production: monthly\r\n" in written


# ── Staging before production ────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def staged(site: Site) -> Site:
    """The same hosts as staging (one approval) and as production, which asks for a run there."""
    gate = yaml.safe_load(site.gate_path.read_text())
    rules = {**gate["policy"], "approvals": {risk: {"count": 1} for risk in ("low", "medium", "high")}}
    site.write("inventories/staging/gate.yml", {**gate, "name": "staging", "policy": rules})
    # The key of the trail that staging is recorded in: here the same.
    site.run("play.yml")
    log = site.log()
    key = log.current_key()
    log.close()
    site.gate({"staging": "staging"}, staging_keys=[key])
    site.commit()
    return site


def ran_on_staging(site: Site, *words: str, **more: t.Any) -> str:
    """The id of a run on staging."""
    request = wanted(site, rollback_playbook="", **more)
    step(site, "request", "alice", "-e", "change_inventory=inventories/staging", "-e", request)
    taken = sorted(path.name for path in (site.top / "changes" / "staging").iterdir())[-1]
    step(site, "approve", "bob", "-e", f"change_id={taken}", "-e", "change_inventory=inventories/staging")
    site.run("play.yml", "-e", f"change_id={taken}", *LIMIT, *words, inventory="inventories/staging")
    return str(site.entries("run.authorized")[-1]["run"])


def requested(site: Site, run: str, **more: t.Any) -> str:
    request = wanted(site, staging_run=run, **more)
    step(site, "request", "alice", "-e", "change_inventory=inventories/production", "-e", request)
    change_id = sorted(path.name for path in site.changes.glob("CHG-*"))[-1]
    site.approve(change_id, "bob", "carol")
    return change_id


def test_what_ran_on_staging_runs_on_production(staged: Site) -> None:
    change_id = requested(staged, ran_on_staging(staged))
    done = staged.run("play.yml", "-e", f"change_id={change_id}", *LIMIT)
    assert done.returncode == 0, done.stdout


def test_two_inventories_may_have_a_change_of_the_same_id(staged: Site) -> None:
    run = ran_on_staging(staged)
    (there,) = (staged.top / "changes" / "staging").iterdir()
    words = ("-e", "change_inventory=inventories/production", "-e", f"change_id={there.name}")
    step(staged, "request", "alice", *words, "-e", wanted(staged, staging_run=run))
    staged.approve(there.name, "bob", "carol")
    done = staged.run("play.yml", "-e", f"change_id={there.name}", *LIMIT)
    assert done.returncode == 0, done.stdout


def test_what_did_not_run_on_staging_does_not(staged: Site) -> None:
    def refused(change_id: str) -> str:
        before = staged.visits()
        done = staged.run("play.yml", "-e", f"change_id={change_id}", *LIMIT)
        assert done.returncode == 1 and staged.visits() == before, done.stdout
        return " ".join(done.stdout.split())

    assert "does not show that it ran on staging" in refused(staged.approved())
    only_checked = requested(staged, ran_on_staging(staged, "--check"))
    assert "on staging failed" in refused(only_checked)
    run = ran_on_staging(staged)
    good = requested(staged, run)
    proof = json.loads((staged.changes / good / "staging.json").read_bytes())

    forged = staged.approved(staging_run=run)
    entry = json.loads(proof["entries"][0]["line"])
    lines = [{**proof["entries"][0], "line": json.dumps({**entry, "playbooks": ["play.yml", "other.yml"]})}]
    place = staged.changes / forged / "staging.json"
    place.write_text(json.dumps({**proof, "entries": [*lines, proof["entries"][1]]}))
    assert "holds an entry that the signed log does not have" in refused(forged)

    unknown = staged.approved(staging_run=run)
    shutil.copy(staged.changes / good / "staging.json", staged.changes / unknown / "staging.json")
    another = staged.changes / unknown / "staging.json"
    another.write_text(another.read_text().replace("\\u2014", "x").replace("— ", "— x"))
    assert "None of the keys that are known has signed this" in refused(unknown)

    digests = staged.approved(staging_run=run, digests=[f"sha256:{'0' * 64}"])
    shutil.copy(staged.changes / good / "staging.json", staged.changes / digests / "staging.json")
    assert "was with other images" in refused(digests)


def test_production_gets_the_images_that_staging_had(staged: Site) -> None:
    digests = {"staging": "0", "production": "0"}
    release = {"scope": {**REQUEST["scope"], "variables": {"release_id": "1.4.0"}}}

    def locked() -> None:
        for inventory, digit in digests.items():
            images = {"backend": f"{inventory}.example.org/portal/backend@sha256:{digit * 64}"}
            lock = {"images_lock": {"platform": {}, "releases": {"1.4.0": images}}}
            staged.write(f"inventories/{inventory}/group_vars/all/images.lock.yml", lock)
        staged.commit()

    locked()
    run = ran_on_staging(staged, "-e", "release_id=1.4.0", **release)
    words = ("play.yml", "-e", "release_id=1.4.0", *LIMIT)
    # Nobody says the digests: they are what the images lock has.
    done = staged.run(*words, "-e", f"change_id={requested(staged, run, **release)}")
    assert done.returncode == 0, done.stdout
    assert staged.entries("run.authorized")[-1]["digests"] == [f"sha256:{'0' * 64}"]

    digests["production"] = "1"
    locked()
    before = staged.visits()
    done = staged.run(*words, "-e", f"change_id={requested(staged, run, **release)}")
    assert "was with other images" in " ".join(done.stdout.split()) and staged.visits() == before


def test_a_job_without_a_terminal_and_without_git_config(site: Site) -> None:
    """As in a CI job, which has no home that knows anything."""
    change_id = site.approved()
    words = ("play.yml", "-e", f"change_id={change_id}", *LIMIT)
    ran = site.run(*words, env={"CI": "true", "HOME": str(site.directory / "nowhere"), "TERM": "dumb"})
    assert ran.returncode == 0, ran.stdout

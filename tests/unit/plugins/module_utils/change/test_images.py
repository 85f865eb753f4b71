# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The images of the release that a run deploys."""

from __future__ import annotations

import pytest

from ansible_collections.flowaudit.ops.plugins.module_utils.change import gate, images, model
from ansible_collections.flowaudit.ops.plugins.module_utils.errors import FlowauditError

from .conftest import MINUTE, NOW, ran

LOCK = "inventories/production/group_vars/all/images.lock.yml"
ZERO, ONE = (f"sha256:{digit * 64}" for digit in "01")


def lock(project, **releases):
    """Commit an images lock; a release's images are named by their digests."""
    value = {
        release: {f"image{number}": f"registry.example.org/image{number}@{digest}" for number, digest in enumerate(has)}
        for release, has in releases.items()
    }
    project.write(LOCK, {"images_lock": {"platform": {}, "releases": value}})
    project.commit()


def deployed(project, **more):
    return project.approved(scope={"variables": {"release_id": "r1"}}, **more)


def judged(project, log, change, playbook="play.yml", **more):
    variables = more.pop("variables", change.scope.variables)
    command = gate.Command("ansible-playbook", (playbook,), change.id, ("h1",), variables, **more)
    return gate.judge(project.gate(), command, log, NOW + MINUTE)


# ── What a release has ───────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("value", "release"), [("1.4.0", "1.4.0"), (5, "5"), ("rc-2026-01-05 ", "rc-2026-01-05 ")])
def test_the_release_is_named_by_an_extra_variable(value, release):
    assert images.release_of(model.variables_of({"a": "x", "release_id": value})) == release


def test_most_runs_name_no_release():
    assert images.release_of(model.variables_of({"release": "1.4.0"})) == ""


@pytest.mark.parametrize("name", ["app_release_id", "swarm_release_id", "app_release_images", "images_lock"])
def test_nothing_else_names_images(project, log, name):
    with pytest.raises(FlowauditError, match=f"{name} is the inventory's to set; name the release with -e release_id"):
        project.approved(scope={"variables": {"release_id": "r1", name: "x"}})
    lock(project, r1=[ZERO])
    with pytest.raises(gate.Denied, match=f"{name} is the inventory's"):
        judged(project, log, deployed(project), variables=('release_id="r1"', f'{name}="x"'))


def test_digests_come_from_the_lock(project):
    lock(project, r1=[ONE, ZERO, ONE])
    assert images.digests_of(project.top / LOCK, "r1") == (ZERO, ONE)
    assert images.digests_of(project.top / "nowhere.yml", "r1") == ()


def test_a_lock_may_be_written_by_hand(project):
    path = project.write("lock.yml", "images_lock: {releases: {1.4: {a: 'x@" + ONE + "'}}}\nsecret: !vault x\n")
    assert images.digests_of(path, "1.4") == (ONE,)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("images_lock: {releases: {r2: {}}}", "has no release r1; lock its images first"),
        ("images_lock: {releases: {r1: {a: 'x:1.4.0'}}}", "not named by its digest"),
        ("images_lock: {releases: {r1: [a]}}", "has not the form of an images lock"),
        ("images_lock: 1", "has not the form"),
        ("[]", "has not the form"),
        ("a: [", "is no YAML"),
    ],
)
def test_a_lock_that_says_nothing_of_the_release(project, content, message):
    with pytest.raises(FlowauditError, match=message):
        images.digests_of(project.write("lock.yml", content), "r1")


# ── What a change is about ───────────────────────────────────────────────────────────────────────────────────────────


def test_a_request_takes_the_images_from_the_lock(project):
    lock(project, r1=[ZERO], r2=[ONE])
    assert (deployed(project).release, deployed(project).digests) == ("r1", (ZERO,))
    assert project.requested(release="r2").digests == (ONE,)
    assert deployed(project, digests=[ZERO]).digests == (ZERO,)
    assert project.requested().digests == ()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"release": "r2"}, "is about release r2, and would run with release_id=r1"),
        ({"digests": [ONE]}, r"not the images of release r1 in .*images\.lock\.yml; leave digests out"),
    ],
)
def test_a_request_that_contradicts_the_lock(project, more, message):
    lock(project, r1=[ZERO], r2=[ONE])
    with pytest.raises(FlowauditError, match=message):
        deployed(project, **more)


# ── What may run ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_what_was_approved_runs(project, log):
    lock(project, r1=[ZERO])
    fields = judged(project, log, deployed(project)).fields
    assert (fields["release"], fields["digests"]) == ("r1", [ZERO])


def test_images_that_were_not_approved_do_not(project, log):
    # Requested before there was a lock, with images of which nobody knew better.
    change = deployed(project, digests=[ONE])
    lock(project, r1=[ZERO])
    with pytest.raises(gate.Denied) as denied:
        judged(project, log, change)
    assert [refusal.code for refusal in denied.value.refusals] == ["tree", "digests"]


def test_a_release_is_locked_once(project):
    path = project.write("lock.yml", "images_lock: {releases: {1.0: {}, '1.0': {}}}")
    with pytest.raises(FlowauditError, match=r"has more than one release 1\.0"):
        images.digests_of(path, "1.0")


def test_images_that_no_lock_has_do_not_run(project, log):
    change = deployed(project, digests=[ONE])
    with pytest.raises(gate.Denied) as denied:
        judged(project, log, change)
    assert [refusal.code for refusal in denied.value.refusals] == ["digests"]


def test_a_release_that_is_locked_no_more_does_not(project, log):
    lock(project, r1=[ZERO])
    change = deployed(project)
    lock(project, r2=[ONE])
    with pytest.raises(gate.Denied, match="has no release r1"):
        judged(project, log, change)


def test_a_rollback_is_not_asked_for_the_images_it_takes_back_to(project, log):
    lock(project, r1=[ZERO])
    change = deployed(project, rollback_playbook="back.yml")
    judged(project, log, change)
    ran(log, change)
    back = judged(project, log, change, "back.yml", variables=('release_id="r0"',))
    assert back.fields["rollback"] is True

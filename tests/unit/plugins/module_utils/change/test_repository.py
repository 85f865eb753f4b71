# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

import os
import pathlib

import pytest

from ansible_collections.flowaudit.ops.plugins.module_utils.change import model, repository, signature
from ansible_collections.flowaudit.ops.plugins.module_utils.errors import FlowauditError

ID = "CHG-2026-0042"
DIGEST = "sha256:" + "0" * 64
REQUEST = {
    "id": ID,
    "inventory": "production",
    "kind": "normal",
    "risk": "medium",
    "title": "Touch it",
    "reason": "It has to be touched.",
    "ticket": "",
    "strategy": "",
    "governance": "",
    "requester": "alice@example.org",
    "requested_at": "2026-11-21T10:00:00Z",
    "expires_at": "2026-12-21T10:00:00Z",
    "scope": {"hosts": ["h1"], "playbooks": ["play.yml"], "variables": [], "tags": [], "skip_tags": []},
    "rollback": "Touch it back.",
    "rollback_playbook": "",
    "code": {"tree": DIGEST, "collection": "0.3.0", "collection_digest": DIGEST},
    "release": "",
    "digests": [],
    "staging_run": "",
}


@pytest.fixture
def changes(tmp_path):
    return repository.Repository(tmp_path / "changes" / "production")


@pytest.fixture
def place(changes):
    changes.write(ID, "change.json", model.write(REQUEST))
    return changes.place(ID)


def put(place, name, content=b""):
    path = place / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def test_a_change_with_nothing_else_is_read(changes, place):
    filed = changes.load(ID)
    assert filed == repository.Filed(model.read(model.write(REQUEST)), b"", {}, b"", None, None)
    assert changes.change(ID) == filed.change


def test_everything_that_was_said_of_a_change_is_read(changes, place):
    for name in ("request.sig", "approvals/bob.sig", "approvals/carol@example.org.sig", "staging.json"):
        put(place, name, name.encode())
    for name in ("revocation.json", "revocation.sig", "review.json", "approvals/README.md", "notes.md"):
        put(place, name, name.encode())
    filed = changes.load(ID)
    assert (filed.request, filed.staging) == (b"request.sig", b"staging.json")
    assert filed.approvals == {"bob": b"approvals/bob.sig", "carol@example.org": b"approvals/carol@example.org.sig"}
    assert filed.revocation == repository.Statement(b"revocation.json", b"revocation.sig")
    assert filed.review == repository.Statement(b"review.json", b"")


def test_only_what_is_called_like_a_change_is_one(changes):
    assert changes.ids() == []
    for name in ("CHG-2026-0042", "CHG-2026-0007", "CHG-2025-0100", "policy", "CHG-2026-1", ".git"):
        changes.path.joinpath(name).mkdir(parents=True)
    assert changes.ids() == ["CHG-2025-0100", "CHG-2026-0007", "CHG-2026-0042"]
    assert [changes.next_id(year) for year in (2025, 2026, 2027)] == ["CHG-2025-0101", "CHG-2026-0043", "CHG-2027-0001"]


def test_an_id_is_free_when_no_inventory_has_it(changes, place):
    assert changes.has(ID) and not changes.has("CHG-2026-0043")
    changes.path.parent.joinpath("staging", "CHG-2026-0050").mkdir(parents=True)
    assert changes.next_id(2026) == "CHG-2026-0051"


def test_changes_that_cannot_be_listed_are_an_error(changes):
    put(changes.path.parent, "production")
    with pytest.raises(FlowauditError, match=r"The changes in .*production cannot be read: Not a directory\."):
        changes.ids()


def test_no_change_of_this_id_is_said(changes, place):
    with pytest.raises(FlowauditError, match=r"There is no change CHG-2026-0043 in .*git pull.*change_request"):
        changes.load("CHG-2026-0043")
    for name in ("../CHG-2026-0042", "", "policy"):
        with pytest.raises(FlowauditError, match="is no id of a change"):
            changes.change(name)


def test_a_directory_without_a_document_is_said(changes, place):
    (place / "change.json").unlink()
    with pytest.raises(FlowauditError, match=r"CHG-2026-0042 has no change\.json\."):
        changes.load(ID)


def test_a_document_that_is_none_is_said_with_its_path(changes, place):
    put(place, "change.json", b"{}")
    with pytest.raises(FlowauditError, match=r"CHG-2026-0042/change\.json: .*too few"):
        changes.load(ID)


def test_a_change_in_the_directory_of_another_is_refused(changes, place):
    place.rename(place.with_name("CHG-2026-0043"))
    with pytest.raises(FlowauditError, match=r"The directory CHG-2026-0043 holds the change CHG-2026-0042\."):
        changes.load("CHG-2026-0043")


def test_a_link_to_a_change_is_not_followed(changes, place):
    changes.place("CHG-2026-0043").symlink_to(place)
    with pytest.raises(FlowauditError, match="CHG-2026-0043 is no directory that can be read: "):
        changes.load("CHG-2026-0043")


@pytest.mark.parametrize("name", ["change.json", "request.sig", "staging.json", "review.json", "approvals/bob.sig"])
def test_links_and_pipes_are_not_read(changes, place, tmp_path, name):
    put(place, name)
    (place / name).unlink()
    put(tmp_path, "elsewhere")
    (place / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(FlowauditError, match=r"cannot be read: .*; it has to be a file, not a link\."):
        changes.load(ID)
    (place / name).unlink()
    os.mkfifo(place / name)
    with pytest.raises(FlowauditError, match=f"{pathlib.Path(name).name} is no file"):
        changes.load(ID)


@pytest.mark.parametrize("name", ["change.json", "request.sig", "review.json", "approvals/bob.sig"])
def test_directories_are_not_read(changes, place, name):
    (place / name).unlink(missing_ok=True)
    (place / name).mkdir(parents=True)
    with pytest.raises(FlowauditError, match="is no file"):
        changes.load(ID)


def test_a_link_in_place_of_the_approvals_is_not_followed(changes, place, tmp_path):
    (place / "approvals").symlink_to(tmp_path)
    with pytest.raises(FlowauditError, match="The approvals are no directory that can be read: "):
        changes.load(ID)


@pytest.mark.parametrize(
    ("name", "largest"),
    [("change.json", model.LARGEST), ("request.sig", signature.LARGEST), ("staging.json", 1024 * 1024)],
)
def test_nothing_large_is_read(changes, place, name, largest):
    put(place, name, b" " * (largest + 1))
    with pytest.raises(FlowauditError, match=f"{name} has more than {largest} bytes"):
        changes.load(ID)


def test_what_is_just_not_too_large_is_read(changes, place):
    put(place, "request.sig", b" " * signature.LARGEST)
    assert len(changes.load(ID).request) == signature.LARGEST


def test_approvals_have_a_limit(changes, place):
    for number in range(50):
        put(place, f"approvals/p{number}.sig")
    assert len(changes.load(ID).approvals) == 50
    put(place, "approvals/p50.sig")
    with pytest.raises(FlowauditError, match="at most 50 approvals, this one has 51"):
        changes.load(ID)


def test_an_approval_of_nobody_is_refused(changes, place):
    put(place, "approvals/a b.sig")
    with pytest.raises(FlowauditError, match="principal is 'a b'"):
        changes.load(ID)


def test_who_signed_for_terms(changes, place):
    assert changes.policy_approvals("abc") == {}
    changes.policy_place("abc").mkdir(parents=True)
    assert changes.policy_approvals("abc") == {}
    put(changes.policy_place("abc"), "approvals/bob.sig", b"x")
    assert changes.policy_approvals("abc") == {"bob": b"x"}


def test_a_file_is_written_whole_for_everybody_to_read(changes, place):
    path = changes.write(ID, "approvals/bob.sig", b"one")
    assert changes.write(ID, "approvals/bob.sig", b"two") == path == place / "approvals" / "bob.sig"
    assert (path.read_bytes(), path.stat().st_mode & 0o777) == (b"two", 0o644)
    assert os.listdir(path.parent) == ["bob.sig"]


def test_what_cannot_be_written_leaves_nothing_behind(changes, place, monkeypatch):
    def fail(*paths):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(FlowauditError, match=r"request\.sig cannot be written: No space left on device\."):
        changes.write(ID, "request.sig", b"x")
    assert os.listdir(place) == ["change.json"]


def test_a_file_in_place_of_a_directory_is_said(changes, place):
    with pytest.raises(FlowauditError, match=r"change.json/x cannot be written: "):
        changes.write(ID, "change.json/x", b"x")

# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""From a release's record in the Swarm to what the role does."""

from __future__ import annotations

import base64
import json
import typing as t

import pytest
from ansible.errors import AnsibleFilterError

from ansible_collections.flowaudit.ops.plugins.filter import releases

IMAGE = "registry:5000/api@sha256:" + "0" * 64
COMMIT = "0123456789abcdef"


def record(release: str, kinds: str, at: str) -> dict[str, t.Any]:
    """A release, as the Swarm would show its config."""
    labels = {"ops.flowaudit.migrations": kinds, "org.opencontainers.image.revision": COMMIT}
    made = json.loads(releases.swarm_record({"api": IMAGE}, release, labels, actor="ops"))
    made.pop("checksum")
    manifest = releases._manifest({**made, "deployed_at": at})
    data = base64.b64encode(releases.manifest.dump(manifest).encode()).decode()
    return {"Spec": {"Name": f"ltc-{release}", "Data": data}}


def service(release: str) -> dict[str, t.Any]:
    return {"Spec": {"Labels": {"ops.flowaudit.release": release}}}


FIRST = record("rc-1", "0001=none", "2026-03-01T10:00:00+00:00")
SECOND = record("rc-2", "0001=none,0002=contract", "2026-03-02T10:00:00+00:00")


def test_a_swarm_without_releases() -> None:
    empty = {"releases": [], "current": {}, "back": {}, "whole": False}
    assert releases.swarm_releases([], []) == empty


def test_which_release_runs_and_which_was_before() -> None:
    found = releases.swarm_releases([FIRST, SECOND], [service("rc-2")])
    assert (found["current"]["release_id"], found["back"]["release_id"], found["whole"]) == ("rc-2", "rc-1", True)
    assert [each["record"] for each in found["releases"]] == ["ltc-rc-2", "ltc-rc-1"]
    assert found["current"]["git_commit"] == COMMIT and found["current"]["actor"] == "ops"


def test_what_is_no_record_ends_the_play_with_its_sentence() -> None:
    with pytest.raises(AnsibleFilterError, match="The config x is no record"):
        releases.swarm_releases([{"Spec": {"Name": "x", "Data": ""}}], [])


def test_an_image_without_a_digest_is_refused() -> None:
    with pytest.raises(AnsibleFilterError, match="without a digest"):
        releases.swarm_record({"api": "registry:5000/api:latest"}, "rc-1", {})


def test_the_way_there_and_back() -> None:
    text = releases.swarm_record({"api": IMAGE}, "rc-2", {"ops.flowaudit.migrations": "0001=none,0002=expand"})
    assert releases.swarm_way(text, "0001") == {"kind": "expand", "revisions": ["0002"]}
    with pytest.raises(AnsibleFilterError, match="revision 0009"):
        releases.swarm_way(text, "0009")
    found = releases.swarm_releases([FIRST, SECOND], [service("rc-2")])
    assert releases.swarm_way_back(found["current"], found["current"])["revisions"] == []
    with pytest.raises(AnsibleFilterError, match="removed what rc-1 needs"):
        releases.swarm_way_back(found["releases"][1], found["current"])

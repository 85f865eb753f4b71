# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

import json
import os
import pathlib

import pytest

from ansible_collections.flowaudit.ops.plugins.module_utils.change import gate_file, yaml_file
from ansible_collections.flowaudit.ops.plugins.module_utils.errors import FlowauditError
from ansible_collections.flowaudit.ops.plugins.module_utils.trail import note

from .conftest import POLICY

KEY = str(note.VerifierKey("control/trail", bytes(32)))


def test_a_gate_is_read(project):
    project.write_gate(staging_keys=[KEY], inventory={"all": {}})
    gate = project.gate()
    assert (gate.name, gate.protected, gate.top) == ("production", True, project.top)
    assert gate.changes == project.top / "changes"
    assert gate.repository.path == project.top / "changes" / "production"
    assert (gate.terms.inventory, gate.terms.rules) == ("production", POLICY)
    assert gate.terms.signers == (project.top / "allowed_signers").read_text()
    assert (gate.terms.staging_keys, gate.collection) == ((KEY,), None)
    assert gate_file.load(project.gate_path, ("0.3.0", "x")).collection == ("0.3.0", "x")


def test_an_inventory_that_is_not_protected_needs_no_policy(project):
    project.write("inventories/demo/gate.yml", {"plugin": gate_file.PLUGIN, "name": "demo", "protected": False})
    gate = gate_file.load(project.top / "inventories/demo/gate.yml")
    assert (gate.protected, gate.terms.rules, gate.terms.signers) == (False, {}, "")


def test_places_can_be_named(project):
    project.write("who/may", "x")
    project.write_gate(changes="records/changes", allowed_signers="who/may")
    gate = project.gate()
    assert gate.changes == project.top / "records/changes" and gate.terms.signers == "x"


def test_encrypted_values_need_no_password(project):
    text = project.gate_path.read_text() + "inventory: {all: {vars: {secret: !vault 'x', other: !unsafe [a]}}}\n"
    project.write("inventories/production/gate.yml", text)
    assert project.gate().name == "production"


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"hosts": []}, "hosts is unknown; a gate has allowed_signers, changes,"),
        ({"name": "../production"}, r"name is the inventory's name, .*not '\.\./production'"),
        ({"name": 3}, "name is the inventory's name, .*not 3"),
        ({"protected": "no"}, "protected is true or false, not 'no'"),
        ({"policy": None}, "policy is missing; docs/gate.md has one"),
        ({"policy": {}}, "approvals is missing"),
        ({"staging_keys": KEY}, "staging_keys is a list of verifier keys"),
        ({"staging_keys": [3]}, "staging_keys is a list of verifier keys"),
        ({"staging_keys": ["x"]}, "no verifier key"),
        ({"changes": "../changes"}, r"changes is \.\./changes, which is not in the repository"),
        ({"changes": "."}, r"changes is \., which is not in the repository"),
        ({"changes": "/changes"}, "changes is /changes, which is not in the repository"),
        ({"changes": ["x"]}, "changes is a path in the repository"),
        ({"allowed_signers": "none"}, "none, who may request and approve, cannot be read"),
        ({"allowed_signers": "../allowed_signers"}, "which is not in the repository"),
        ({"plugin": "ansible.builtin.yaml"}, "is no gate: it does not say plugin: flowaudit.ops.change_gate"),
    ],
)
def test_what_makes_no_sense_is_refused(project, more, message):
    project.write_gate(**more)
    if more.get("policy", 1) != 1:
        text = project.gate_path.read_text()
        project.gate_path.write_text(text[: text.index("policy:")] + f"policy: {json.dumps(more['policy'])}\n")
    with pytest.raises(FlowauditError, match=message):
        project.gate()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", "is no gate"),
        ("a: [}", r"is no YAML \(line 1\)"),
        ("a: b\nb: ]", r"is no YAML \(line 2\)"),
        ("a: \x07", "is no YAML"),
        ("a: 2026-99-99", "is no YAML"),
    ],
)
def test_what_is_no_mapping_is_refused(project, text, message):
    project.gate_path.write_text(text)
    with pytest.raises(FlowauditError, match=message):
        project.gate()


def test_aliases_are_read_unless_they_make_a_file_endless(project):
    text = project.gate_path.read_text()
    project.gate_path.write_text(f"{text}sources: &none []\nstaging_keys: *none\n")
    project.gate()
    levels = "\n".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 9))
    project.gate_path.write_text(f"{text}a0: &a0 [x, {{y: z}}]\n{levels}\n")
    with pytest.raises(FlowauditError, match="says more by its aliases than can be read"):
        project.gate()


def test_what_is_no_file_is_not_waited_for(project):
    project.gate_path.unlink()
    os.mkfifo(project.gate_path)
    with pytest.raises(FlowauditError, match="is no file"):
        project.gate()


def test_a_key_that_is_no_text_is_refused(project):
    project.gate_path.write_text(project.gate_path.read_text() + "1: a\nhosts: b\n")
    with pytest.raises(FlowauditError, match="is unknown"):
        project.gate()


def test_what_is_large_or_cannot_be_read_is_refused(project):
    project.gate_path.write_text("#" * (yaml_file.LARGEST + 1))
    with pytest.raises(FlowauditError, match=f"has more than {yaml_file.LARGEST} bytes; put the hosts into sources"):
        project.gate()
    with pytest.raises(FlowauditError, match="none cannot be read: No such file"):
        gate_file.load(project.top / "none")


def test_signers_that_are_no_text_are_refused(project):
    (project.top / "allowed_signers").write_bytes(b"\xff")
    with pytest.raises(FlowauditError, match="who may request and approve, cannot be read"):
        project.gate()


def test_a_gate_outside_of_git_is_refused(project, tmp_path):
    path = tmp_path / "gate.yml"
    path.write_bytes(project.gate_path.read_bytes())
    with pytest.raises(FlowauditError, match=r"gate.yml is in no Git repository"):
        gate_file.load(path)


def test_outside_of_git_only_what_is_not_protected_is_read(tmp_path):
    (tmp_path / "gate.yml").write_text(f"plugin: {gate_file.PLUGIN}\nname: demo\nprotected: false\n")
    gate = gate_file.load(tmp_path / "gate.yml")
    assert (gate.top, gate.protected) == (tmp_path, False)


def test_a_gate_where_nobody_looks_is_refused(project):
    project.write(".cache/gate.yml", project.gate_path.read_text())
    with pytest.raises(FlowauditError, match=r"gate\.yml lies where nobody looks at it: not in a hidden"):
        gate_file.load(project.top / ".cache/gate.yml")


def test_signers_beyond_measure_are_refused(project):
    (project.top / "allowed_signers").write_text("#" * (yaml_file.LARGEST + 1))
    with pytest.raises(FlowauditError, match=f"allowed_signers has more than {yaml_file.LARGEST} bytes"):
        project.gate()


# ── Finding one ──────────────────────────────────────────────────────────────────────────────────────────────────────


def second(project, protected=True):
    value = {"plugin": gate_file.PLUGIN, "name": "staging", "policy": POLICY, "protected": protected}
    return project.write("inventories/staging/gate.yaml", value)


def test_a_gate_is_found_by_its_file_its_directory_or_the_one_above(project, monkeypatch):
    for path in (project.gate_path, project.gate_path.parent, project.top / "inventories"):
        assert gate_file.find(str(path)) == project.gate_path
    monkeypatch.setenv("HOME", str(project.top))
    assert gate_file.find("~/inventories") == project.gate_path


def test_the_only_one_that_is_protected_is_found(project):
    second(project, protected=False)
    assert gate_file.find(str(project.top / "inventories")) == project.gate_path


def test_the_one_with_the_change_is_found(project):
    other = second(project)
    (project.top / "changes/staging/CHG-2026-0007").mkdir(parents=True)
    assert gate_file.find(str(project.top / "inventories"), "CHG-2026-0007") == other
    with pytest.raises(FlowauditError, match=r"has no protected inventory with the change CHG-2026-0008 \(gate\.yml\)"):
        gate_file.find(str(project.top / "inventories"), "CHG-2026-0008")
    with pytest.raises(FlowauditError, match=r"has several inventories: name one of .*production, .*staging"):
        gate_file.find(str(project.top / "inventories"))


@pytest.mark.parametrize("path", ["none", "changes", "."])
def test_no_gate_is_said(project, path):
    with pytest.raises(FlowauditError, match=r"has no protected inventory \(gate\.yml\); docs/gate\.md has how"):
        gate_file.find(str(pathlib.Path(project.top, path)))

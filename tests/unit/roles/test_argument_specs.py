# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Each role's argument specs say what its defaults and its users say: the same variables, defaults and entry points."""

from __future__ import annotations

import functools
import re
import typing as t
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

COLLECTION = Path(__file__).resolve().parents[3]
NAMESPACE = "flowaudit.ops."
ROLES = sorted(path.name for path in (COLLECTION / "roles").iterdir() if path.is_dir())
TYPES = {"str", "bool", "int", "float", "path", "raw", "list", "dict"}

Mapping = dict[str, t.Any]


class _Loader(yaml.SafeLoader):
    """Reads Ansible's own tags (!vault, !unsafe) as the text behind them."""


_Loader.add_multi_constructor("!", lambda loader, suffix, node: node.value)


def load(path: Path) -> t.Any:
    return yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)


@functools.cache
def entry_points(role: str) -> Mapping:
    return t.cast("Mapping", load(COLLECTION / "roles" / role / "meta" / "argument_specs.yml")["argument_specs"])


def defaults(role: str) -> Mapping:
    variables = load(COLLECTION / "roles" / role / "defaults" / "main.yml") or {}
    return {name: value for name, value in variables.items() if not name.startswith("_")}


def options(role: str) -> Iterator[tuple[str, Mapping]]:
    """(where, option) of every option of every entry point, nested ones too."""

    def walk(where: str, spec: Mapping) -> Iterator[tuple[str, Mapping]]:
        for name, option in (spec.get("options") or {}).items():
            yield f"{where}.{name}", option
            yield from walk(f"{where}.{name}", option)

    for entry_point, spec in entry_points(role).items():
        yield from walk(entry_point, spec)


def is_templated(value: t.Any) -> bool:
    if isinstance(value, dict):
        return any(is_templated(item) for pair in value.items() for item in pair)
    if isinstance(value, list):
        return any(is_templated(item) for item in value)
    return isinstance(value, str) and ("{{" in value or "{%" in value)


def uses() -> Iterator[tuple[str, str, str]]:
    """(file, role, entry point) wherever a role of this collection is used."""

    def walk(node: t.Any) -> Iterator[tuple[str, str]]:
        if isinstance(node, list):
            for item in node:
                yield from walk(item)
        elif isinstance(node, dict):
            for key, value in node.items():
                if str(key).rpartition(".")[2] in ("include_role", "import_role") and isinstance(value, dict):
                    yield value["name"], value.get("tasks_from", "main")
                elif key == "roles" and isinstance(value, list):
                    for item in value:
                        yield (item if isinstance(item, str) else item.get("role", item.get("name", ""))), "main"
                else:
                    yield from walk(value)

    for folder in ("roles", "playbooks", "molecule"):
        for path in sorted((COLLECTION / folder).rglob("*.yml")):
            if "templates" in path.parts or "files" in path.parts:
                continue
            for name, entry_point in walk(load(path)):
                role = name.removeprefix(NAMESPACE)
                if role in ROLES:
                    yield str(path.relative_to(COLLECTION)), role, entry_point.removesuffix(".yml")


@pytest.mark.parametrize("role", ROLES)
def test_the_options_of_main_are_the_defaults(role: str) -> None:
    assert set(entry_points(role)["main"]["options"]) == set(defaults(role))


@pytest.mark.parametrize("role", ROLES)
def test_every_variable_carries_the_roles_name(role: str) -> None:
    assert [
        where
        for where, _option in options(role)
        if where.count(".") == 1 and not where.partition(".")[2].startswith(f"{role}_")
    ] == []


@pytest.mark.parametrize("role", ROLES)
def test_a_plain_default_is_repeated_and_a_computed_one_is_not(role: str) -> None:
    documented = {
        name: option["default"] for name, option in entry_points(role)["main"]["options"].items() if "default" in option
    }
    plain = {name: value for name, value in defaults(role).items() if not is_templated(value)}
    # By their representation: 1 is not "1", and 5 is not 5.0.
    assert {name: repr(value) for name, value in documented.items()} == {
        name: repr(value) for name, value in plain.items()
    }


@pytest.mark.parametrize("role", ROLES)
def test_every_option_is_described_and_typed(role: str) -> None:
    for where, option in options(role):
        assert option.get("description"), f"{where} has no description"
        assert option.get("type", "str") in TYPES, f"{where} has the unknown type {option['type']}"
        assert ("elements" in option) == (option.get("type") == "list"), (
            f"{where}: a list, and nothing else, has elements"
        )


@pytest.mark.parametrize("role", ROLES)
def test_secrets_are_kept_out_of_messages(role: str) -> None:
    assert [where for where, option in options(role) if where.endswith("_secrets") and not option.get("no_log")] == []


@pytest.mark.parametrize("role", ROLES)
def test_every_entry_point_has_its_tasks_and_says_what_it_does(role: str) -> None:
    for entry_point, spec in entry_points(role).items():
        assert (COLLECTION / "roles" / role / "tasks" / f"{entry_point}.yml").is_file()
        assert spec.get("short_description")


@pytest.mark.parametrize(("file", "role", "entry_point"), list(uses()))
def test_every_entry_point_in_use_is_specified(file: str, role: str, entry_point: str) -> None:
    assert entry_point in entry_points(role), f"{file} uses {entry_point} of {role}, which its argument specs lack"


def test_every_key_of_a_service_is_described() -> None:
    services = pytest.importorskip("ansible_collections.flowaudit.ops.plugins.module_utils.services")
    description = " ".join(
        entry_points("compose_project")["main"]["options"]["compose_project_services"]["description"]
    )
    assert [key for key in services._KEYS if f"C({key})" not in description] == []


def test_a_module_that_a_role_drives_has_the_defaults_of_the_role() -> None:
    source = (COLLECTION / "plugins" / "modules" / "release.py").read_text(encoding="utf-8")
    documentation = re.search(r'^DOCUMENTATION = r"""(.*?)^"""', source, re.DOTALL | re.MULTILINE)
    assert documentation

    def walk(options: Mapping) -> Iterator[tuple[str, t.Any]]:
        for name, option in options.items():
            yield f"app_release_{name}", option.get("default")
            yield from walk(option.get("suboptions") or {})

    of_module = dict(walk(yaml.safe_load(documentation[1])["options"]))
    shared = {
        name: (of_module[name], value)
        for name, value in defaults("app_release").items()
        if of_module.get(name) is not None and not is_templated(value)
    }
    assert len(shared) > 10
    # Without a log of the edge, a module that is used alone watches nothing.
    del shared["app_release_access_log"]
    assert {name: pair for name, pair in shared.items() if pair[0] != pair[1]} == {}

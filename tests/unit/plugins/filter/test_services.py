# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The filters as a playbook meets them: through Ansible's templating, which hands them lazy containers."""

from __future__ import annotations

import pathlib
import typing as t

import pytest
import yaml
from ansible.errors import AnsibleError, AnsibleFilterError, AnsibleUndefinedVariable
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template

from ansible_collections.flowaudit.ops.plugins.filter import access, networks, releases, secrets
from ansible_collections.flowaudit.ops.plugins.filter.services import FilterModule

IMAGES = {"redis": "registry:5000/redis@sha256:" + "a" * 64}
VARIABLES: dict[str, t.Any] = {
    "memory": "512M",
    "images": IMAGES,
    "services": {
        "redis": {
            "image": "redis",
            "user": 70020,
            "limits": {"memory": "{{ memory }}", "cpus": 1},
            "reservations": {"memory": "{{ '128M' }}"},
            "command": [
                "redis-server",
                "--maxmemory",
                "{{ (memory | flowaudit.ops.memory_bytes * 0.75) | int | string }}",
            ],
            "environment": {"PRICE": "5 $", "LIMIT": "{{ memory }}"},
            "mounts": [{"source": "{{ '/data' }}/redis", "target": "/data"}],
            "health": {"test": ["CMD", "redis-cli", "{{ 'PING' }}"], "interval": "5s"},
            "networks": ["{{ 'data' }}"],
            "secrets": ["users.acl"],
        },
    },
    "overrides": {"redis": {"limits": {"memory": "{{ '1G' }}", "cpus": None}}},
    "networks": {"data": {"name": "{{ 'flowaudit' }}-data", "internal": True}},
}


def _trust(value: t.Any) -> t.Any:
    if isinstance(value, dict):
        return {key: _trust(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_trust(item) for item in value]
    return trust_as_template(value) if isinstance(value, str) else value


def template(expression: str, **variables: t.Any) -> t.Any:
    templar = Templar(loader=DataLoader(), variables=_trust({**VARIABLES, **variables}))
    return templar.template(trust_as_template("{{ " + expression + " }}"))


def assert_plain(value: t.Any) -> None:
    """No container is one of Ansible's lazy ones; a text may carry Ansible's tags (where it came from)."""
    if isinstance(value, dict):
        assert type(value).__module__ == "builtins"
        for item in value.values():
            assert_plain(item)
    elif isinstance(value, list):
        assert type(value).__module__ == "builtins"
        for item in value:
            assert_plain(item)
    else:
        assert isinstance(value, (str, int, float, type(None))), type(value)


@pytest.fixture(autouse=True, scope="module")
def _ansibles_own_filters() -> None:
    # Loading them starts a process (ctypes looks for libraries), so it happens before the guard looks.
    template("{} | combine({})")


def test_every_filter_is_documented() -> None:
    directory = pathlib.Path(__file__).parents[4] / "plugins" / "filter"
    documented = {
        path.stem: yaml.safe_load(path.read_text())["DOCUMENTATION"]["name"] for path in directory.glob("*.yml")
    }
    modules = (access, networks, releases, secrets)
    filters = [*FilterModule().filters(), *(name for module in modules for name in module.FilterModule().filters())]
    assert documented == {name: name for name in filters}


def test_release_switch_leads_to_one_colour() -> None:
    text = template("{'backend': 8000} | flowaudit.ops.release_switch('flowaudit', 'green')")
    assert '"url": "http://flowaudit-green-backend:8000"' in text
    assert "blue" not in text


def test_memory_bytes_counts_in_powers_of_1024() -> None:
    assert template("memory | flowaudit.ops.memory_bytes") == 512 * 1024**2


def test_a_wrong_figure_ends_the_play_with_its_sentence() -> None:
    with pytest.raises(AnsibleError, match="'2Gb' is not a memory figure: write a whole number and K, M or G"):
        template("'2Gb' | flowaudit.ops.memory_bytes")


def test_only_our_own_errors_become_sentences() -> None:
    filters = FilterModule().filters()
    with pytest.raises(AnsibleFilterError, match="is not a memory figure"):
        filters["memory_bytes"]("2g")
    with pytest.raises(AttributeError):
        filters["capacity_problems"](None, 1, 1, 1)


def test_merged_services_are_rendered_and_plain() -> None:
    merged = template("services | flowaudit.ops.merge_services(overrides)")
    assert_plain(merged)
    assert merged["redis"]["limits"] == {"memory": "1G", "cpus": 1}
    assert merged["redis"]["command"] == ["redis-server", "--maxmemory", str(384 * 1024**2)]


def test_the_filters_themselves_give_plain_containers_for_lazy_ones() -> None:
    filters = FilterModule().filters()
    seen = []

    def probe(services: t.Any, overrides: t.Any, images: t.Any) -> bool:
        merged = filters["merge_services"](services, overrides)
        document = filters["compose_document"](services, images, project="p", secrets_directory="/s")
        seen.extend([type(services), merged, document])
        return True

    assert template("probe(services, overrides, images)", probe=probe)
    kind, merged, document = seen
    assert kind is not dict, "Ansible gave no lazy container, so this test shows nothing"
    assert_plain(merged)
    assert_plain(document)
    assert merged["redis"]["environment"]["LIMIT"] == document["services"]["redis"]["environment"]["LIMIT"] == "512M"


def test_merged_services_can_be_changed_by_what_follows_in_a_template() -> None:
    combined = template("services | flowaudit.ops.merge_services({}) | combine({'web': {'image': 'web'}})")
    assert_plain(combined)
    assert list(combined) == ["redis", "web"]


def test_merging_leaves_the_variables_as_they_are() -> None:
    source = _trust(VARIABLES)
    templar = Templar(loader=DataLoader(), variables=source)
    templar.template(trust_as_template("{{ services | flowaudit.ops.merge_services(overrides) }}"))
    assert source == VARIABLES


def test_a_lazy_service_map_has_no_problems() -> None:
    assert template("services | flowaudit.ops.service_problems(images, 'services')") == []
    assert template("overrides | flowaudit.ops.override_problems(services, 'overrides')") == []


def test_problems_name_the_rendered_value() -> None:
    broken = {"redis": {**VARIABLES["services"]["redis"], "user": "{{ 'ro' ~ 'ot' }}"}}
    problems = template("services | flowaudit.ops.service_problems(images, 'services')", services=broken)
    assert_plain(problems)
    assert problems == ["services.redis.user is 'root'; give a numeric user id, such as 70010."]


def test_problems_of_overrides_are_plain_sentences() -> None:
    problems = template("overrides | flowaudit.ops.override_problems(services, 'overrides')", overrides={"cache": {}})
    assert_plain(problems)
    assert problems == ["overrides names the unknown service 'cache'; the services are redis."]


def test_capacity_reads_rendered_limits() -> None:
    expression = "services | flowaudit.ops.capacity_problems(memory | flowaudit.ops.memory_bytes + {}, 2, 1)"
    assert template(expression.format(1)) == []
    assert_plain(template(expression.format(0)))
    assert len(template(expression.format(0))) == 1


def test_a_compose_document_is_rendered_and_plain() -> None:
    document = template(
        "services | flowaudit.ops.merge_services(overrides) "
        "| flowaudit.ops.compose_document(images, project='flowaudit', secrets_directory='/secrets', "
        "networks=networks, volumes=volumes, revisions={'redis': memory})",
        volumes=["{{ 'pgdata' }}_1"],
    )
    assert_plain(document)
    redis = document["services"]["redis"]
    assert redis["memswap_limit"] == "1G"
    assert redis["deploy"]["resources"]["reservations"] == {"memory": "128M"}
    assert redis["healthcheck"] == {"test": ["CMD", "redis-cli", "PING"], "interval": "5s"}
    assert redis["volumes"][0]["source"] == "/data/redis"
    assert redis["environment"] == {"PRICE": "5 $$", "LIMIT": "512M"}
    assert redis["labels"] == {"flowaudit.revision": "512M"}
    assert document["volumes"] == {"pgdata_1": {"name": "pgdata_1", "external": True}}
    assert document["networks"] == {"data": {"name": "flowaudit-data", "internal": True}}
    assert yaml.safe_load(yaml.safe_dump(document)) == document


@pytest.mark.parametrize(
    "expression",
    [
        "services | flowaudit.ops.merge_services({})",
        "services | flowaudit.ops.service_problems(images, 'services')",
        "services | flowaudit.ops.compose_document(images, project='p', secrets_directory='/s')",
    ],
)
def test_an_undefined_variable_inside_a_service_is_an_error_not_a_value(expression: str) -> None:
    broken = {"redis": {**VARIABLES["services"]["redis"], "environment": {"URL": "{{ nowhere }}"}}}
    with pytest.raises(AnsibleUndefinedVariable, match="'nowhere' is undefined"):
        template(expression, services=broken)

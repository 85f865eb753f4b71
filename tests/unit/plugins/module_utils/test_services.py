# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

import copy
import json
import types
import typing as t

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.flowaudit.ops.plugins.module_utils import services
from ansible_collections.flowaudit.ops.plugins.module_utils.errors import FlowauditError

GIGABYTE = 1024**3
IMAGES = types.MappingProxyType({"postgres": "registry:5000/postgres@sha256:" + "0" * 64})
KEYS = (
    "aliases, capabilities, command, depends_on, entrypoint, environment, extra_hosts, health, image, limits, mounts, "
    "networks, ports, profiles, read_only, reservations, restart, secrets, shm_size, stop_grace_period, stop_signal, "
    "tmpfs, user"
)


def service(**changes: t.Any) -> dict[str, t.Any]:
    return {"image": "postgres", "user": 70010, "limits": {"memory": "2G", "cpus": 2}, **changes}


def full_service() -> dict[str, t.Any]:
    """One with every key."""
    return service(
        limits={"memory": "2G", "cpus": 1.5, "pids": 300},
        reservations={"memory": "512M"},
        aliases=["flowaudit-db"],
        capabilities=["CHOWN"],
        command=["postgres", "-c", "wal_level=replica"],
        depends_on=["redis"],
        entrypoint=["/entry"],
        environment={"PASSWORD_FILE": "/run/secrets/postgres_password", "DEBUG": True, "WORKERS": 4, "UNSET": None},
        extra_hosts={"id.example.org": "10.0.0.1"},
        health={"test": ["CMD", "pg_isready"], "interval": "5s"},
        mounts=[
            {"type": "volume", "source": "flowaudit_pgdata_1", "target": "/var/lib/postgresql/data"},
            {"source": "/srv/sockets", "target": "/run/sockets", "owner": 70010, "mode": "0700", "read_only": True},
        ],
        networks=["data", "edge"],
        ports=["5432:5432"],
        profiles=["migrate"],
        read_only=False,
        restart="no",
        secrets=["postgres_password", "users.acl"],
        shm_size="256M",
        stop_grace_period="1m30s",
        stop_signal="SIGTERM",
        tmpfs=["/tmp"],
    )


def problems(value: t.Any, images: t.Any = IMAGES) -> list[str]:
    return services.service_problems({"db": value}, images, "stack_services")


# ── memory figures ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("figure", "expected"),
    [("64K", 64 * 1024), ("512M", 512 * 1024**2), ("2G", 2 * GIGABYTE), ("0G", 0), ("010M", 10 * 1024**2)],
)
def test_a_memory_figure_counts_in_powers_of_1024(figure: str, expected: int) -> None:
    assert services.memory_bytes(figure) == expected


NO_FIGURES = [
    "2Gb",
    "2g",
    "2GB",
    "2GiB",
    "2T",
    "1.5G",
    "1,5G",
    "-1G",
    "+1G",
    " 2G",
    "2G ",
    "2 G",
    "2G\n",
    "٢G",
    "512",
    "G",
    "",
]


@pytest.mark.parametrize("figure", [*NO_FIGURES, 512, 2.0, True, None, [], {}])
def test_any_other_notation_is_no_memory_figure(figure: t.Any) -> None:
    with pytest.raises(FlowauditError) as error:
        services.memory_bytes(figure)
    assert str(error.value) == (
        f"'{figure}' is not a memory figure: write a whole number and K, M or G, such as 512M or 2G"
    )


@given(st.integers(min_value=0), st.sampled_from("KMG"))
def test_every_whole_number_with_a_unit_is_a_memory_figure(number: int, unit: str) -> None:
    assert services.memory_bytes(f"{number}{unit}") == number * 1024 ** (" KMG".index(unit))


# ── merge ───────────────────────────────────────────────────────────────────────────────────────────────────────────

_scalars = st.none() | st.booleans() | st.integers() | st.text(max_size=5)
_keys = st.sampled_from(["image", "limits", "memory", "cpus", "environment", "a"])
_flat = _scalars | st.lists(_scalars, max_size=3)
_values = _flat | st.dictionaries(_keys, _flat | st.dictionaries(_keys, _flat, max_size=3), max_size=4)
_maps = st.dictionaries(_keys, st.dictionaries(_keys, _values, max_size=4), max_size=4)


def _without_empty_lines(value: t.Any) -> t.Any:
    """Nothing said: keys set to None say nothing, nor does a mapping of such."""
    if isinstance(value, dict):
        return {key: _without_empty_lines(item) for key, item in value.items() if item is not None}
    return value


@given(_maps)
def test_merging_nothing_changes_nothing(defaults: t.Any) -> None:
    assert services.merge(defaults, {}) == defaults
    assert services.merge(defaults, dict.fromkeys(defaults)) == defaults


@given(_maps)
def test_merging_into_nothing_gives_what_was_merged(overrides: t.Any) -> None:
    assert services.merge({}, overrides) == overrides


@given(_maps, _maps)
def test_merging_again_changes_nothing_more(defaults: t.Any, overrides: t.Any) -> None:
    once = services.merge(defaults, overrides)
    assert services.merge(once, overrides) == once


@given(_maps, _maps)
def test_merging_keeps_every_key_and_both_inputs(defaults: t.Any, overrides: t.Any) -> None:
    before = copy.deepcopy((defaults, overrides))
    merged = services.merge(defaults, overrides)
    assert (defaults, overrides) == before
    assert list(merged) == [*defaults, *(key for key in overrides if key not in defaults)]


@given(_maps, _maps)
def test_an_override_wins_wherever_it_says_something(defaults: t.Any, overrides: t.Any) -> None:
    def check(merged: t.Any, said: t.Any) -> None:
        for key, value in said.items():
            if isinstance(value, dict):
                check(merged[key], value)
            else:
                assert merged[key] == value

    check(services.merge(defaults, overrides), _without_empty_lines(overrides))


def test_mappings_are_merged_and_everything_else_is_replaced() -> None:
    defaults = {"db": service(secrets=["a", "b"], environment={"A": "1", "B": "2"})}
    merged = services.merge(defaults, {"db": {"limits": {"memory": "4G"}, "secrets": ["c"], "environment": {"B": "3"}}})
    assert merged == {
        "db": service(limits={"memory": "4G", "cpus": 2}, secrets=["c"], environment={"A": "1", "B": "3"})
    }


def test_an_empty_line_keeps_the_default() -> None:
    defaults = {"db": service()}
    assert services.merge(defaults, {"db": None}) == defaults
    assert services.merge(defaults, {"db": {"limits": {"memory": None}, "image": None}}) == defaults


def test_a_merged_map_shares_nothing_with_its_inputs() -> None:
    defaults, overrides = {"db": service(secrets=["a"])}, {"db": {"tmpfs": ["/tmp"]}}
    merged = services.merge(defaults, overrides)
    merged["db"]["secrets"].append("b")
    merged["db"]["tmpfs"].append("/run")
    assert defaults["db"]["secrets"] == ["a"]
    assert overrides["db"]["tmpfs"] == ["/tmp"]


@pytest.mark.parametrize("defaults", [None, "x", ["x"]])
def test_services_that_are_no_mapping_stay_so_their_problem_is_named(defaults: t.Any) -> None:
    merged = services.merge(defaults, {})
    assert merged == defaults
    assert services.service_problems(merged, IMAGES, "stack_services") == [
        "stack_services must map service names to services."
    ]


# ── overrides ───────────────────────────────────────────────────────────────────────────────────────────────────────

DEFAULTS = types.MappingProxyType({"redis": service(), "db": service()})


def override_problems(overrides: t.Any, defaults: t.Any = DEFAULTS) -> list[str]:
    return services.override_problems(overrides, defaults, "stack_service_overrides")


@pytest.mark.parametrize("overrides", [{}, {"db": {"limits": {"memory": "4G"}}}, {"db": None}, {"db": {}}])
def test_overrides_of_known_services_are_no_problem(overrides: t.Any) -> None:
    assert override_problems(overrides) == []


@pytest.mark.parametrize("overrides", [None, "db", ["db"], 5])
def test_overrides_that_are_no_mapping_are_a_problem(overrides: t.Any) -> None:
    assert override_problems(overrides) == ["stack_service_overrides must map service names to what changes for them."]


def test_an_override_of_an_unknown_service_is_a_problem() -> None:
    assert override_problems({"database": {}}) == [
        "stack_service_overrides names the unknown service 'database'; the services are db, redis."
    ]
    assert override_problems({5: {}}, {5: {}, "db": {}, 6: {}}) == []


@pytest.mark.parametrize("value", ["4G", ["4G"], 4, False])
def test_an_override_that_is_no_mapping_is_a_problem(value: t.Any) -> None:
    assert override_problems({"db": value}) == [
        "stack_service_overrides.db must be a mapping, such as {limits: {memory: 1G}}."
    ]


def test_broken_services_are_not_blamed_on_the_overrides() -> None:
    assert override_problems({"db": {}}, defaults=None) == []


# ── service maps ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_whole_service_has_no_problem() -> None:
    assert problems(service()) == []
    assert problems(full_service()) == []
    assert set(full_service()) == set(services._KEYS), "full_service() is to have every key"


def test_a_key_without_a_value_is_no_key() -> None:
    empty = {key: None for key in full_service() if key not in ("image", "limits", "user")}
    assert problems(service(**empty)) == []
    assert problems(service(limits={"memory": "2G", "cpus": 2, "pids": None}, reservations={"memory": None})) == []


@pytest.mark.parametrize("value", [None, "x", 5, ["x"]])
def test_a_map_or_service_that_is_no_mapping_is_a_problem(value: t.Any) -> None:
    assert services.service_problems(value, IMAGES, "stack_services") == [
        "stack_services must map service names to services."
    ]
    assert problems(value) == ["stack_services.db must be a mapping with image, limits and user."]


@pytest.mark.parametrize("name", ["DB", "1db", "d b", "", "db.x", "-db", 5, None])
def test_a_name_the_engine_would_not_take_is_a_problem(name: t.Any) -> None:
    assert services.service_problems({name: service()}, IMAGES, "stack_services") == [
        f"stack_services.{name} is no service name: use lower-case letters, digits, '-' and '_'."
    ]


def test_every_problem_of_every_service_is_named_at_once() -> None:
    found = services.service_problems({"db": {}, "redis": "x"}, IMAGES, "stack_services")
    assert found == [
        "stack_services.db lacks 'image'.",
        "stack_services.db lacks 'limits'.",
        "stack_services.db lacks 'user'.",
        "stack_services.redis must be a mapping with image, limits and user.",
    ]


def test_a_problem_two_services_share_is_named_once() -> None:
    found = services.service_problems({"blue": service(), "green": service()}, {"postgres": "postgres:17"}, "x")
    assert len(found) == 1


@pytest.mark.parametrize("key", ["image", "limits", "user"])
def test_a_required_key_without_a_value_is_lacking(key: str) -> None:
    assert problems(service(**{key: None})) == [f"stack_services.db lacks '{key}'."]


def test_an_unknown_key_is_a_problem() -> None:
    assert problems(service(volumes=[])) == [f"stack_services.db has the unknown key 'volumes'; the keys are {KEYS}."]
    assert problems(service(**{"5": None}))[0].startswith("stack_services.db has the unknown key '5'; the keys are")


FORMS = {
    "aliases": ("a list of names", ["x", 5, {}, [5]]),
    "capabilities": ("a list of names, such as [NET_BIND_SERVICE]", ["CHOWN", [None]]),
    "command": ("a text or a list of texts (numbers in quotes)", [5, {}, ["sleep", 5]]),
    "depends_on": ("a list or a mapping of services", ["redis", 5]),
    "entrypoint": ("a text or a list of texts (numbers in quotes)", [True, [["x"]]]),
    "environment": (
        "a mapping of variables to texts, such as {LOG_LEVEL: info}",
        ["A=1", ["A=1"], {"A": {}}, {"A": []}, {5: "x"}],
    ),
    "extra_hosts": (
        "a mapping of host names to addresses",
        ["id.example.org:10.0.0.1", ["id.example.org:10.0.0.1"], 5],
    ),
    "health": ("a mapping, such as {test: [CMD, pg_isready]}", ["x", ["CMD", "x"], 5]),
    "image": ("the name of an image, such as postgres", [5, {}, ["postgres"], True]),
    "limits": ("a mapping, such as {memory: 2G, cpus: 1}", ["2G", 2, ["2G"]]),
    "mounts": ("a list of mounts, such as [{source: /data/redis, target: /data}]", ["x", 5, {"source": "/x"}]),
    "networks": ("a list of names, such as [data]", ["x", {"data": {}}, [None]]),
    "ports": ("a list, such as ['443:8443']", ["443:8443", 443]),
    "profiles": ("a list of names", ["migrate", [1]]),
    "read_only": ("true or false", ["yes", 1, []]),
    "reservations": ("a mapping, such as {memory: 512M}", ["512M", 5, []]),
    "restart": ("'no' (in quotes), always, unless-stopped or on-failure", [False, "never", "on-failure:x", ["always"]]),
    "secrets": ("a list of names, such as [redis_password]", ["x", {"x": {}}, [{}]]),
    "shm_size": ("a memory figure, such as 256M", [[], {}, True]),
    "stop_grace_period": ("a duration such as 30s or 5m", [30, []]),
    "stop_signal": ("a signal, such as SIGTERM", [15, []]),
    "tmpfs": ("a list of paths, such as [/tmp]", ["x", {"/tmp": None}, [5]]),
    "user": ("a numeric user id, such as 70010", [[], {}, True, 1.5]),
}


@pytest.mark.parametrize(("key", "value"), [(key, value) for key, (_form, values) in FORMS.items() for value in values])
def test_a_value_of_another_form_is_a_problem_and_the_only_one(key: str, value: t.Any) -> None:
    assert problems(service(**{key: value})) == [f"stack_services.db.{key} must be {FORMS[key][0]}."]


def test_every_key_has_a_form_that_is_tested() -> None:
    assert set(FORMS) == set(services._KEYS)


_odd = _scalars | st.floats()
_anything = _odd | st.lists(_odd, max_size=2) | st.dictionaries(_scalars, _odd | st.lists(_odd, max_size=2), max_size=2)
_mounts = st.lists(
    st.dictionaries(st.sampled_from(["source", "target", "type", "read_only", "x"]), _anything, max_size=5)
)
_limits = st.dictionaries(st.sampled_from(["memory", "cpus", "pids", "x"]), _anything | st.just("2G"), max_size=4)
_services = st.fixed_dictionaries(
    {},
    optional={
        **dict.fromkeys(FORMS, _anything),
        "mounts": _anything | _mounts,
        "limits": _anything | _limits,
        "reservations": _anything | _limits,
    },
)


@given(st.dictionaries(_scalars, _services | _anything, max_size=2), _anything | st.just(IMAGES))
def test_whatever_an_inventory_holds_its_problems_are_sentences(value: t.Any, images: t.Any) -> None:
    for problem in services.service_problems(value, images, "x"):
        assert problem.endswith(".")


_right = st.fixed_dictionaries({}, optional={key: st.just(value) | st.none() for key, value in full_service().items()})


@given(_right, st.sampled_from(sorted(FORMS)), _anything | _mounts | _limits)
def test_a_service_without_problems_has_a_compose_document(right: t.Any, key: str, odd: t.Any) -> None:
    candidate = {"db": {**right, **service(), key: odd}}
    if not services.service_problems(candidate, IMAGES, "x"):
        document = services.compose_document(candidate, IMAGES, project="p", secrets_directory="/s")
        assert json.dumps(document)


# ── images ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("images", [{}, {"redis": "x"}, None, "postgres", []])
def test_an_image_the_lock_lacks_is_a_problem(images: t.Any) -> None:
    assert problems(service(), images) == [
        "stack_services.db.image is 'postgres', which the images lock does not have; "
        "run the playbook flowaudit.ops.images first."
    ]


@pytest.mark.parametrize(
    "reference", ["postgres:17", "postgres@sha256:abc", "@sha256:" + "0" * 64, "x@sha256:" + "G" * 64, None, 5]
)
def test_an_image_without_a_digest_is_a_problem(reference: t.Any) -> None:
    assert problems(service(), {"postgres": reference}) == [
        f"The image 'postgres' is locked as '{reference}' without a digest; "
        "run the playbook flowaudit.ops.images, or write it as name@sha256:…."
    ]


# ── limits and reservations ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("kind", ["limits", "reservations"])
def test_an_unknown_limit_is_a_problem(kind: str) -> None:
    figures = {"memory": "1G", "swap": "1G"} | ({"cpus": 1} if kind == "limits" else {})
    assert problems(service(**{kind: figures})) == [f"stack_services.db.{kind} has the unknown key 'swap'."]


@pytest.mark.parametrize("kind", ["limits", "reservations"])
@pytest.mark.parametrize("figure", ["2Gb", "", 5, [], {}])
def test_a_memory_figure_that_is_none_is_a_problem(kind: str, figure: t.Any) -> None:
    figures = {"memory": figure} | ({"cpus": 1} if kind == "limits" else {})
    assert problems(service(**{kind: figures})) == [
        f"stack_services.db.{kind}.memory: '{figure}' is not a memory figure: "
        "write a whole number and K, M or G, such as 512M or 2G."
    ]


@pytest.mark.parametrize("limits", [{"memory": "1G"}, {"memory": "1G", "cpus": None}])
def test_a_service_without_a_limit_of_processors_is_a_problem(limits: t.Any) -> None:
    assert problems(service(limits=limits)) == ["stack_services.db.limits lacks 'cpus'; no service runs without it."]


@pytest.mark.parametrize("limits", [{"cpus": 1}, {"cpus": 1, "memory": None}])
def test_a_service_without_a_limit_of_memory_is_a_problem(limits: t.Any) -> None:
    assert problems(service(limits=limits)) == ["stack_services.db.limits lacks 'memory'; no service runs without it."]


def test_no_memory_at_all_is_no_limit() -> None:
    assert problems(service(limits={"memory": "0M", "cpus": 1}, reservations={"memory": "1M"})) == [
        "stack_services.db.limits.memory is '0M', which the engine takes for no limit at all."
    ]


@pytest.mark.parametrize("cpus", [0, -1, "0", "two", "", [], True, "nan", float("inf"), float("nan"), 10**400])
def test_a_number_of_processors_that_is_none_is_a_problem(cpus: t.Any) -> None:
    assert problems(service(limits={"memory": "1G", "cpus": cpus})) == [
        f"stack_services.db.limits.cpus is '{cpus}'; give a number of processors above 0, such as 0.5."
    ]


@pytest.mark.parametrize("pids", [0, -1, "many", 1.5, "1.5", 0.5, True, [], "inf"])
def test_a_number_of_processes_that_is_none_is_a_problem(pids: t.Any) -> None:
    assert problems(service(limits={"memory": "1G", "cpus": 1, "pids": pids})) == [
        f"stack_services.db.limits.pids is '{pids}'; give the most processes the service may have."
    ]


def test_a_service_cannot_reserve_more_memory_than_its_limit() -> None:
    assert problems(service(reservations={"memory": "2G"})) == []
    assert problems(service(reservations={"memory": "2049M"})) == [
        "stack_services.db reserves more memory (2049M) than its limit (2G)."
    ]


# ── user, grace period, mounts ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("user", ["postgres", "", "70010:70010", -1, " 70010"])
def test_a_user_that_is_not_numeric_is_a_problem(user: t.Any) -> None:
    assert problems(service(user=user)) == [
        f"stack_services.db.user is '{user}'; give a numeric user id, such as 70010."
    ]


@pytest.mark.parametrize("grace", ["30", "s", "30 s", "", "1d", "30s "])
def test_a_grace_period_that_is_no_duration_is_a_problem(grace: str) -> None:
    assert problems(service(stop_grace_period=grace)) == [
        f"stack_services.db.stop_grace_period is '{grace}'; write a duration such as 30s or 5m."
    ]


@pytest.mark.parametrize("grace", ["30s", "5m", "1h30m", "500ms"])
def test_a_duration_is_a_grace_period(grace: str) -> None:
    assert problems(service(stop_grace_period=grace)) == []


@pytest.mark.parametrize(
    "mount",
    [
        "/data:/data",
        5,
        None,
        [],
        {},
        {"source": "/data"},
        {"target": "/data"},
        {"source": None, "target": "/data"},
        {"source": "/data", "target": 5},
    ],
)
def test_a_mount_without_source_or_target_is_a_problem(mount: t.Any) -> None:
    assert problems(service(mounts=[mount])) == ["stack_services.db.mounts needs source and target for each mount."]


MOUNT = {"source": "/data", "target": "/srv"}


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"size": "1G"}, "stack_services.db.mounts has the unknown key 'size'."),
        ({"type": "tmpfs"}, "stack_services.db.mounts: the type of /srv is 'tmpfs'; it must be bind or volume."),
        ({"type": []}, "stack_services.db.mounts: the type of /srv is '[]'; it must be bind or volume."),
        (
            {"source": "data"},
            "stack_services.db.mounts: data is bound into the container, so it must be an absolute path.",
        ),
        (
            {"target": "srv"},
            "stack_services.db.mounts: srv is a path in the container, so it must be an absolute path.",
        ),
        ({"read_only": "no"}, "stack_services.db.mounts: read_only of /srv must be true or false."),
    ],
)
def test_a_mount_that_is_wrong_is_a_problem(changes: dict[str, t.Any], problem: str) -> None:
    assert problems(service(mounts=[{**MOUNT, **changes}])) == [problem]


@pytest.mark.parametrize("changes", [{"type": None}, {"read_only": None}, {"type": "volume", "source": "pgdata"}])
def test_a_mount_that_is_right_is_no_problem(changes: dict[str, t.Any]) -> None:
    assert problems(service(mounts=[{**MOUNT, **changes}])) == []


# ── capacity ────────────────────────────────────────────────────────────────────────────────────────────────────────

TWO = {"db": service(), "ollama": service(limits={"memory": "32G", "cpus": 8})}


def test_the_memory_of_services_is_the_sum_of_their_limits() -> None:
    assert services.memory_sum(TWO) == 34 * GIGABYTE
    assert services.memory_sum({}) == 0


def test_a_machine_of_exactly_the_size_is_large_enough() -> None:
    assert services.capacity_problems(TWO, 38 * GIGABYTE, 8, 4 * GIGABYTE) == []


def test_a_byte_too_little_memory_is_a_problem() -> None:
    assert services.capacity_problems(TWO, 38 * GIGABYTE - 1, 8, 4 * GIGABYTE) == [
        "The machine has 38.0 GB of memory, but the services' limits and the reserve come to 38.0 GB; "
        "lower the limits in the inventory or use a larger machine."
    ]


def test_a_service_with_more_processors_than_the_machine_is_a_problem() -> None:
    assert services.capacity_problems(TWO, 64 * GIGABYTE, 2, 0) == [
        "ollama may use 8 processors, but the machine has 2; "
        "lower ollama.limits.cpus in the inventory or use a larger machine."
    ]


def test_processors_may_be_a_fraction_or_a_text() -> None:
    small = {"web": service(limits={"memory": "1G", "cpus": "2.5"})}
    assert services.capacity_problems(small, GIGABYTE, 3, 0) == []
    assert services.capacity_problems(small, GIGABYTE, 2, 0)[0].startswith("web may use 2.5 processors")


# ── the Compose document ────────────────────────────────────────────────────────────────────────────────────────────


def compose(value: t.Any, **options: t.Any) -> dict[str, t.Any]:
    options = {"project": "flowaudit", "secrets_directory": "/etc/flowaudit/secrets", **options}
    return services.compose_document({"db": value}, IMAGES, **options)


def compose_service(value: t.Any, **options: t.Any) -> dict[str, t.Any]:
    result: dict[str, t.Any] = compose(value, **options)["services"]["db"]
    return result


def test_the_smallest_service_gets_every_protection() -> None:
    assert compose(service()) == {
        "name": "flowaudit",
        "services": {
            "db": {
                "image": IMAGES["postgres"],
                "user": "70010:70010",
                "read_only": True,
                "cap_drop": ["ALL"],
                "security_opt": ["no-new-privileges:true"],
                "restart": "unless-stopped",
                "memswap_limit": "2G",
                "deploy": {"resources": {"limits": {"memory": "2G", "cpus": "2", "pids": 256}}},
                "logging": {"driver": "json-file", "options": {"max-size": "100m", "max-file": "5"}},
                "network_mode": "none",
            }
        },
        "networks": {},
    }


def test_every_key_reaches_the_compose_document() -> None:
    assert compose_service(full_service()) == {
        "image": IMAGES["postgres"],
        "user": "70010:70010",
        "read_only": False,
        "cap_drop": ["ALL"],
        "cap_add": ["CHOWN"],
        "security_opt": ["no-new-privileges:true"],
        "restart": "no",
        "memswap_limit": "2G",
        "deploy": {
            "resources": {
                "limits": {"memory": "2G", "cpus": "1.5", "pids": 300},
                "reservations": {"memory": "512M"},
            }
        },
        "logging": {"driver": "json-file", "options": {"max-size": "100m", "max-file": "5"}},
        "healthcheck": {"test": ["CMD", "pg_isready"], "interval": "5s"},
        "secrets": [
            {"source": "db.postgres_password", "target": "postgres_password"},
            {"source": "db.users.acl", "target": "users.acl"},
        ],
        "volumes": [
            {
                "type": "volume",
                "source": "flowaudit_pgdata_1",
                "target": "/var/lib/postgresql/data",
                "read_only": False,
            },
            {
                "type": "bind",
                "source": "/srv/sockets",
                "target": "/run/sockets",
                "read_only": True,
                "bind": {"create_host_path": False},
            },
        ],
        "networks": {"data": {"aliases": ["flowaudit-db"]}, "edge": {"aliases": ["flowaudit-db"]}},
        "command": ["postgres", "-c", "wal_level=replica"],
        "depends_on": ["redis"],
        "entrypoint": ["/entry"],
        "environment": {"PASSWORD_FILE": "/run/secrets/postgres_password", "DEBUG": "true", "WORKERS": "4"},
        "extra_hosts": {"id.example.org": "10.0.0.1"},
        "ports": ["5432:5432"],
        "profiles": ["migrate"],
        "shm_size": "256M",
        "stop_grace_period": "1m30s",
        "stop_signal": "SIGTERM",
        "tmpfs": ["/tmp"],
    }


def test_a_key_without_a_value_does_not_reach_the_compose_document() -> None:
    empty: dict[str, t.Any] = {key: None for key in full_service() if key not in ("image", "limits", "user")}
    assert compose(service(**empty)) == compose(service())
    nearly = service(
        limits={"memory": "2G", "cpus": 2, "pids": None},
        reservations={"memory": None},
        environment={"A": None},
        mounts=[],
        secrets=[],
        command=[],
    )
    assert compose(nearly) == compose(service())
    mount = compose_service(service(mounts=[{**MOUNT, "type": None, "read_only": None}]))["volumes"][0]
    assert mount == compose_service(service(mounts=[MOUNT]))["volumes"][0]


def test_a_service_without_aliases_is_in_its_networks_under_its_name() -> None:
    assert compose_service(service(networks=["data"]))["networks"] == {"data": {}}


@pytest.mark.parametrize("pids", ["64", 64.0, 64])
def test_the_limit_of_processes_is_a_whole_number(pids: t.Any) -> None:
    limits = compose_service(service(limits={"memory": "1G", "cpus": 1, "pids": pids}))["deploy"]["resources"]["limits"]
    assert repr(limits["pids"]) == "64"


@pytest.mark.parametrize(("value", "text"), [(True, "true"), (False, "false"), (4, "4"), (0.5, "0.5"), ("", "")])
def test_an_environment_holds_texts(value: t.Any, text: str) -> None:
    assert compose_service(service(environment={"X": value}))["environment"] == {"X": text}


def test_each_service_has_its_own_copy_of_a_secret() -> None:
    both = {"a_b": service(secrets=["c"]), "a": service(secrets=["b_c", "c"]), "web": service()}
    document = services.compose_document(both, IMAGES, project="p", secrets_directory="/secrets")
    assert document["secrets"] == {
        "a_b.c": {"file": "/secrets/a_b/c"},
        "a.b_c": {"file": "/secrets/a/b_c"},
        "a.c": {"file": "/secrets/a/c"},
    }
    assert document["services"]["a"]["secrets"] == [
        {"source": "a.b_c", "target": "b_c"},
        {"source": "a.c", "target": "c"},
    ]


def test_volumes_exist_already_and_networks_are_as_given() -> None:
    networks = {"data": {"name": "flowaudit-data", "internal": True}}
    document = compose(service(), networks=networks, volumes=iter(["flowaudit_pgdata_1"]))
    assert document["volumes"] == {"flowaudit_pgdata_1": {"name": "flowaudit_pgdata_1", "external": True}}
    assert document["networks"] == networks


def test_a_revision_becomes_a_label_of_its_service_only() -> None:
    document = services.compose_document(
        {"db": service(), "web": service()}, IMAGES, project="p", secrets_directory="/s", revisions={"db": "abc"}
    )
    assert document["services"]["db"]["labels"] == {"flowaudit.revision": "abc"}
    assert "labels" not in document["services"]["web"]


def test_logs_are_as_large_as_asked_for() -> None:
    logging = compose_service(service(), log_size="10m", log_files=2)["logging"]
    assert logging["options"] == {"max-size": "10m", "max-file": "2"}


def test_a_dollar_sign_never_becomes_a_variable_of_compose() -> None:
    value = service(
        command=["sh", "-c", "echo $HOME ${HOME} $$"],
        environment={"PASSWORD": "pa$word"},
        health={"test": ["CMD-SHELL", "test $X"]},
        mounts=[{"source": "/data/$x", "target": "/x"}],
        depends_on={"redis": {"condition": "$"}},
        tmpfs=("/tmp/$y",),
    )
    result = compose_service(value)
    assert result["command"] == ["sh", "-c", "echo $$HOME $${HOME} $$$$"]
    assert result["environment"] == {"PASSWORD": "pa$$word"}
    assert result["healthcheck"] == {"test": ["CMD-SHELL", "test $$X"]}
    assert result["volumes"][0]["source"] == "/data/$$x"
    assert result["depends_on"] == {"redis": {"condition": "$$"}}
    assert result["tmpfs"] == ["/tmp/$$y"]


def test_the_inputs_stay_as_they_are_and_share_nothing_with_the_document() -> None:
    value, images = full_service(), dict(IMAGES)
    networks, revisions = {"data": {"driver_opts": {"x": "y"}}}, {"db": "r"}
    before = copy.deepcopy((value, images, networks, revisions))
    document = services.compose_document(
        {"db": value}, images, project="p", secrets_directory="/s", networks=networks, revisions=revisions
    )
    for result in document["services"].values():
        result["command"].append("x")
        result["healthcheck"]["test"].append("x")
        result["deploy"]["resources"]["reservations"]["memory"] = "x"
    document["networks"]["data"]["driver_opts"]["x"] = "z"
    assert (value, images, networks, revisions) == before

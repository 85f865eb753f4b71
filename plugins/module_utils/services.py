# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Services as data: check a service map, sum it up against a machine, turn it into a Compose document.

A service map gives each service name its image, limits, mounts, secrets and health check. The roles' argument specs
describe the keys (``roles/compose_project/meta/argument_specs.yml``). Everything here is pure: no I/O.
"""

from __future__ import annotations

import math
import re
import typing as t
from collections.abc import Iterable, Mapping

from .errors import FlowauditError

Service = Mapping[str, t.Any]
Services = Mapping[str, Service]

_UNITS = {"K": 1024, "M": 1024**2, "G": 1024**3}
_MEMORY = re.compile(r"(?P<number>[0-9]+)(?P<unit>[KMG])")
_NAME = re.compile(r"[a-z][a-z0-9_-]*")
_DIGEST = re.compile(r".+@sha256:[0-9a-f]{64}")
_DURATION = re.compile(r"([0-9]+(ms|s|m|h))+")


def _is_text(value: t.Any) -> bool:
    return isinstance(value, str)


def _is_flag(value: t.Any) -> bool:
    return isinstance(value, bool)


def _is_figure(value: t.Any) -> bool:
    return isinstance(value, (str, int)) and not isinstance(value, bool)


def _is_list(value: t.Any) -> bool:
    return isinstance(value, (list, tuple))


def _is_texts(value: t.Any) -> bool:
    return _is_list(value) and all(isinstance(item, str) for item in value)


def _is_command(value: t.Any) -> bool:
    return _is_text(value) or _is_texts(value)


def _is_mapping(value: t.Any) -> bool:
    return isinstance(value, Mapping)


def _is_collection(value: t.Any) -> bool:
    return _is_list(value) or _is_mapping(value)


def _is_environment(value: t.Any) -> bool:
    return _is_mapping(value) and all(
        isinstance(name, str) and isinstance(text, (str, int, float, type(None))) for name, text in value.items()
    )


def _is_restart(value: t.Any) -> bool:
    return _is_text(value) and re.fullmatch(r"no|always|unless-stopped|on-failure(:[0-9]+)?", value) is not None


class _Key(t.NamedTuple):
    """A key of a service.

    Attributes:
        fits: whether a value has the key's form; what is in it is checked after that.
        form: that form, to complete "… must be".
        copied: whether the Compose value is the value as it is; if not, ``_compose_service`` makes it.
    """

    fits: t.Callable[[t.Any], bool]
    form: str
    copied: bool = False


_KEYS = {
    "aliases": _Key(_is_texts, "a list of names"),
    "capabilities": _Key(_is_texts, "a list of names, such as [NET_BIND_SERVICE]"),
    "command": _Key(_is_command, "a text or a list of texts (numbers in quotes)", copied=True),
    "depends_on": _Key(_is_collection, "a list or a mapping of services", copied=True),
    "entrypoint": _Key(_is_command, "a text or a list of texts (numbers in quotes)", copied=True),
    "environment": _Key(_is_environment, "a mapping of variables to texts, such as {LOG_LEVEL: info}"),
    "extra_hosts": _Key(_is_mapping, "a mapping of host names to addresses", copied=True),
    "health": _Key(_is_mapping, "a mapping, such as {test: [CMD, pg_isready]}"),
    "image": _Key(_is_text, "the name of an image, such as postgres"),
    "limits": _Key(_is_mapping, "a mapping, such as {memory: 2G, cpus: 1}"),
    "mounts": _Key(_is_list, "a list of mounts, such as [{source: /data/redis, target: /data}]"),
    "networks": _Key(_is_texts, "a list of names, such as [data]"),
    "ports": _Key(_is_list, "a list, such as ['443:8443']", copied=True),
    "profiles": _Key(_is_texts, "a list of names", copied=True),
    "read_only": _Key(_is_flag, "true or false"),
    "reservations": _Key(_is_mapping, "a mapping, such as {memory: 512M}"),
    "restart": _Key(_is_restart, "'no' (in quotes), always, unless-stopped or on-failure"),
    "secrets": _Key(_is_texts, "a list of names, such as [redis_password]"),
    "shm_size": _Key(_is_figure, "a memory figure, such as 256M", copied=True),
    "stop_grace_period": _Key(_is_text, "a duration such as 30s or 5m", copied=True),
    "stop_signal": _Key(_is_text, "a signal, such as SIGTERM", copied=True),
    "tmpfs": _Key(_is_texts, "a list of paths, such as [/tmp]", copied=True),
    "user": _Key(_is_figure, "a numeric user id, such as 70010"),
}
_REQUIRED = ("image", "limits", "user")
_MOUNT_KEYS = {"type", "source", "target", "read_only", "owner", "mode"}


def memory_bytes(figure: t.Any) -> int:
    """The bytes of a memory figure such as ``512M`` or ``2G`` (powers of 1024).

    Raises:
        FlowauditError: the figure is not a whole number followed by K, M or G.
    """
    match = _MEMORY.fullmatch(str(figure))
    if match is None:
        raise FlowauditError(
            f"'{figure}' is not a memory figure: write a whole number and K, M or G, such as 512M or 2G"
        )
    return int(match["number"]) * _UNITS[match["unit"]]


def merge(defaults: Services, overrides: Services) -> dict[str, dict[str, t.Any]]:
    """``defaults`` with the keys of ``overrides`` laid over them: mappings are merged, everything else is replaced.

    A key set to ``None`` keeps its default, so an inventory may leave a line empty. What is no mapping at all comes
    back as it is, for :func:`service_problems` to name.
    """

    def lay(base: t.Any, over: t.Any) -> t.Any:
        if over is None:
            return _plain(base)
        if isinstance(base, Mapping) and isinstance(over, Mapping):
            keys = [*base, *(key for key in over if key not in base)]
            return {key: lay(base.get(key), over.get(key)) for key in keys}
        return _plain(over)

    merged = lay(defaults, overrides) if isinstance(defaults, Mapping) else defaults
    return t.cast("dict[str, dict[str, t.Any]]", merged)


def _plain(value: t.Any) -> t.Any:
    """A copy made of plain dictionaries and lists.

    Not ``copy.deepcopy``: it would copy Ansible's lazy containers, and with them the whole templating engine.
    """
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value


def override_problems(overrides: t.Any, defaults: Services, variable: str) -> list[str]:
    """One sentence for each override that names no service of ``defaults``."""
    if not isinstance(overrides, Mapping):
        return [f"{variable} must map service names to what changes for them."]
    if not isinstance(defaults, Mapping):
        return []  # what is wrong then is wrong with the services, and service_problems says so
    known = ", ".join(sorted(str(name) for name in defaults))
    problems = [
        f"{variable} names the unknown service '{name}'; the services are {known}."
        for name in overrides
        if name not in defaults
    ]
    problems += [
        f"{variable}.{name} must be a mapping, such as {{limits: {{memory: 1G}}}}."
        for name, value in overrides.items()
        if name in defaults and value is not None and not isinstance(value, Mapping)
    ]
    return problems


def service_problems(services: t.Any, images: Mapping[str, str], variable: str) -> list[str]:
    """One sentence for each thing that is wrong with a service map; an empty list when it can be run.

    Args:
        services: the service map as it came from the inventory.
        images: image name → reference with digest.
        variable: what the inventory calls the map, for the sentences.
    """
    if not isinstance(services, Mapping):
        return [f"{variable} must map service names to services."]
    problems: list[str] = []
    for name, service in services.items():
        where = f"{variable}.{name}"
        if not _NAME.fullmatch(str(name)):
            problems.append(f"{where} is no service name: use lower-case letters, digits, '-' and '_'.")
        if not isinstance(service, Mapping):
            problems.append(f"{where} must be a mapping with image, limits and user.")
            continue
        problems += _key_problems(where, service)
        # From here on every value has its key's form.
        formed = {key: service[key] for key in _given(service) if key in _KEYS and _KEYS[key].fits(service[key])}
        problems += _image_problems(where, formed, images)
        problems += _limit_problems(where, formed)
        problems += _mount_problems(where, formed)
        if "user" in formed and not re.fullmatch(r"[0-9]+", str(formed["user"])):
            problems.append(f"{where}.user is '{formed['user']}'; give a numeric user id, such as 70010.")
        if "stop_grace_period" in formed and not _DURATION.fullmatch(formed["stop_grace_period"]):
            grace = formed["stop_grace_period"]
            problems.append(f"{where}.stop_grace_period is '{grace}'; write a duration such as 30s or 5m.")
    return list(dict.fromkeys(problems))  # services may share an image that is not locked


def _given(values: Mapping[str, t.Any]) -> dict[str, t.Any]:
    """What is there: a key without a value is as good as no key."""
    return {key: value for key, value in values.items() if value is not None}


def _key_problems(where: str, service: Service) -> list[str]:
    known = ", ".join(_KEYS)
    given = _given(service)
    return [
        *(f"{where} has the unknown key '{key}'; the keys are {known}." for key in service if key not in _KEYS),
        *(f"{where} lacks '{key}'." for key in _REQUIRED if key not in given),
        *(
            f"{where}.{key} must be {_KEYS[key].form}."
            for key, value in given.items()
            if key in _KEYS and not _KEYS[key].fits(value)
        ),
    ]


def _image_problems(where: str, service: Service, images: t.Any) -> list[str]:
    image = service.get("image")
    if image is None:
        return []
    if not isinstance(images, Mapping) or image not in images:
        return [
            f"{where}.image is '{image}', which the images lock does not have; "
            "run the playbook flowaudit.ops.images first."
        ]
    if not _DIGEST.fullmatch(str(images[image])):
        return [
            f"The image '{image}' is locked as '{images[image]}' without a digest; "
            "run the playbook flowaudit.ops.images, or write it as name@sha256:…."
        ]
    return []


def _limit_problems(where: str, service: Service) -> list[str]:
    problems = []
    memory: dict[str, int] = {}
    for kind, known in (("limits", {"memory", "cpus", "pids"}), ("reservations", {"memory"})):
        figures = service.get(kind, {})
        problems += [f"{where}.{kind} has the unknown key '{key}'." for key in figures if key not in known]
        if figures.get("memory") is not None:
            try:
                memory[kind] = memory_bytes(figures["memory"])
            except FlowauditError as error:
                problems.append(f"{where}.{kind}.memory: {error}.")
    if "limits" not in service:
        return problems
    limits = _given(service["limits"])
    problems += [
        f"{where}.limits lacks '{key}'; no service runs without it." for key in ("memory", "cpus") if key not in limits
    ]
    if "cpus" in limits and _number(limits["cpus"]) <= 0:
        problems.append(f"{where}.limits.cpus is '{limits['cpus']}'; give a number of processors above 0, such as 0.5.")
    if "pids" in limits and (_number(limits["pids"]) < 1 or not _number(limits["pids"]).is_integer()):
        problems.append(f"{where}.limits.pids is '{limits['pids']}'; give the most processes the service may have.")
    if memory.get("limits") == 0:
        problems.append(f"{where}.limits.memory is '{limits['memory']}', which the engine takes for no limit at all.")
    elif "limits" in memory and memory.get("reservations", 0) > memory["limits"]:
        reserved = service["reservations"]["memory"]
        problems.append(f"{where} reserves more memory ({reserved}) than its limit ({limits['memory']}).")
    return problems


def _mount_problems(where: str, service: Service) -> list[str]:
    problems = []
    for mount in service.get("mounts", []):
        if not isinstance(mount, Mapping) or not all(isinstance(mount.get(key), str) for key in ("source", "target")):
            problems.append(f"{where}.mounts needs source and target for each mount.")
            continue
        given = _given(mount)
        source, target, kind = given["source"], given["target"], given.get("type", "bind")
        problems += [f"{where}.mounts has the unknown key '{key}'." for key in mount if key not in _MOUNT_KEYS]
        if kind not in ("bind", "volume"):
            problems.append(f"{where}.mounts: the type of {target} is '{kind}'; it must be bind or volume.")
        elif kind == "bind" and not source.startswith("/"):
            problems.append(f"{where}.mounts: {source} is bound into the container, so it must be an absolute path.")
        if not target.startswith("/"):
            problems.append(f"{where}.mounts: {target} is a path in the container, so it must be an absolute path.")
        if not isinstance(given.get("read_only", False), bool):
            problems.append(f"{where}.mounts: read_only of {target} must be true or false.")
    return problems


def _number(value: t.Any) -> float:
    """The finite number ``value`` stands for; 0 when it is none, which is no good figure anywhere here."""
    try:
        number = 0.0 if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        return 0.0
    return number if math.isfinite(number) else 0.0


def memory_sum(services: Services) -> int:
    """The bytes all services may use together."""
    return sum(memory_bytes(service["limits"]["memory"]) for service in services.values())


def capacity_problems(services: Services, total_memory: int, processors: int, reserve: int) -> list[str]:
    """One sentence for each way in which the machine is smaller than what may run on it at once.

    Args:
        services: everything that can run at the same time, the second colour of a switch included.
        total_memory: the machine's memory in bytes.
        processors: the machine's processors.
        reserve: bytes left to the operating system, monitoring and a restore drill.
    """
    gigabyte = _UNITS["G"]
    problems = []
    needed = memory_sum(services) + reserve
    if needed > total_memory:
        problems.append(
            f"The machine has {total_memory / gigabyte:.1f} GB of memory, but the services' limits and the reserve "
            f"come to {needed / gigabyte:.1f} GB; lower the limits in the inventory or use a larger machine."
        )
    for name, service in services.items():
        cpus = _number(service["limits"]["cpus"])
        if cpus > processors:
            problems.append(
                f"{name} may use {cpus:g} processors, but the machine has {processors}; "
                f"lower {name}.limits.cpus in the inventory or use a larger machine."
            )
    return problems


def compose_document(
    services: Services,
    images: Mapping[str, str],
    *,
    project: str,
    secrets_directory: str,
    networks: Mapping[str, t.Any] | None = None,
    volumes: Iterable[str] = (),
    revisions: Mapping[str, str] | None = None,
    log_size: str = "100m",
    log_files: int = 5,
) -> dict[str, t.Any]:
    """The Compose document (compose-spec) of a project.

    Args:
        services: a service map without problems (:func:`service_problems`).
        images: image name → reference with digest.
        project: Compose project name.
        secrets_directory: absolute path on the host that holds ``<service>/<secret>``.
        networks: Compose networks of the project, name → definition.
        volumes: names of existing volumes the services mount.
        revisions: service name → revision of its configuration and secrets; a new one makes Compose recreate the
            service.
        log_size: size at which a container log is rotated, such as ``100m``.
        log_files: how many log files a container keeps.
    """
    revisions = revisions or {}
    document: dict[str, t.Any] = {
        "name": project,
        "services": {
            name: _compose_service(name, service, images, revisions.get(name), log_size, log_files)
            for name, service in services.items()
        },
        "networks": dict(networks or {}),
    }
    volumes = list(volumes)
    if volumes:
        document["volumes"] = {volume: {"name": volume, "external": True} for volume in volumes}
    secrets = {
        _secret_name(name, secret): {"file": f"{secrets_directory}/{name}/{secret}"}
        for name, service in services.items()
        for secret in service.get("secrets") or []
    }
    if secrets:
        document["secrets"] = secrets
    return t.cast("dict[str, t.Any]", _escape(document))


def _compose_service(
    name: str, service: Service, images: Mapping[str, str], revision: str | None, log_size: str, log_files: int
) -> dict[str, t.Any]:
    service = _given(service)
    limits, user = _given(service["limits"]), str(service["user"])
    result: dict[str, t.Any] = {
        "image": images[service["image"]],
        "user": f"{user}:{user}",
        "read_only": service.get("read_only", True),
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges:true"],
        "restart": service.get("restart", "unless-stopped"),
        # Without it Docker grants a container as much swap again as it has memory, and the limit is no limit.
        "memswap_limit": limits["memory"],
        "deploy": {
            "resources": {
                "limits": {
                    "memory": limits["memory"],
                    "cpus": str(limits["cpus"]),
                    "pids": int(float(limits.get("pids", 256))),
                }
            }
        },
        "logging": {"driver": "json-file", "options": {"max-size": log_size, "max-file": str(log_files)}},
    }
    if service.get("capabilities"):
        result["cap_add"] = list(service["capabilities"])
    if reservations := _given(service.get("reservations", {})):
        result["deploy"]["resources"]["reservations"] = reservations
    if service.get("health"):
        result["healthcheck"] = dict(service["health"])
    if service.get("secrets"):
        result["secrets"] = [{"source": _secret_name(name, secret), "target": secret} for secret in service["secrets"]]
    if service.get("mounts"):
        result["volumes"] = [_compose_mount(mount) for mount in service["mounts"]]
    if service.get("networks"):
        aliases = service.get("aliases", [])
        result["networks"] = {network: {"aliases": list(aliases)} if aliases else {} for network in service["networks"]}
    else:
        # Compose would give it a network of the project's that leads outside.
        result["network_mode"] = "none"
    if revision:
        result["labels"] = {"flowaudit.revision": revision}
    if environment := _given(service.get("environment", {})):
        result["environment"] = {key: _environment_text(value) for key, value in environment.items()}
    for name_of_key, key in _KEYS.items():
        if key.copied and service.get(name_of_key) not in (None, [], {}):
            result[name_of_key] = service[name_of_key]
    return result


def _secret_name(service: str, secret: str) -> str:
    """A name no other secret has: a service's name has no dot, so the first one ends it."""
    return f"{service}.{secret}"


def _environment_text(value: t.Any) -> str:
    """A variable's text, with a truth value as YAML and Compose write it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _compose_mount(mount: Mapping[str, t.Any]) -> dict[str, t.Any]:
    mount = _given(mount)
    kind = mount.get("type", "bind")
    result = {
        "type": kind,
        "source": mount["source"],
        "target": mount["target"],
        "read_only": mount.get("read_only", False),
    }
    if kind == "bind":
        # A missing directory is a mistake; created by the engine it would belong to root and hide it.
        result["bind"] = {"create_host_path": False}
    return result


def _escape(value: t.Any) -> t.Any:
    """Compose reads ``$`` as the start of a variable; nothing here is one."""
    if isinstance(value, str):
        return value.replace("$", "$$")
    if isinstance(value, Mapping):
        return {key: _escape(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_escape(item) for item in value]
    return value

# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Who may call what: check an access policy, turn it into the edge's routers.

A policy is a list of rules. A rule names a path, methods and roles; its path stands for itself and everything below
it, and ``*`` for one segment. For a path the most specific rules decide, alone: a method they do not name is denied,
and so is a path no rule covers. One rule is more specific than another when it covers only what the other covers; a
policy in which that leaves something open has a problem. Everything here is pure: no I/O.
"""

from __future__ import annotations

import itertools
import re
import typing as t
from collections.abc import Iterable, Iterator, Mapping, Sequence

#: The role of everybody, signed in or not.
ANYONE = "anyone"
#: What the edge calls a rule without roles.
NOBODY = "nobody"
METHODS = ("GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE")

_ROLE = re.compile(r"[a-z][a-z0-9_-]{0,30}")
_SEGMENT = re.compile(r"[A-Za-z0-9._~-]+")
_KEYS = {"path", "methods", "roles", "upload", "static"}
#: Above every router Traefik makes by itself, below the edge's own (pages, sign-in, maintenance).
_PRIORITY = 1000
#: Segments a path may have; more would not fit into a priority.
_DEPTH = 10

Pattern = tuple[str, ...]
Rule = Mapping[str, t.Any]


class Router(t.TypedDict):
    """A router of the edge.

    Attributes:
        name: unique, and made of the path, so a line of the access log says which rule decided.
        path: the rule's path.
        path_regexp: what the path must match (RE2, as Traefik uses it).
        methods: the HTTP methods; empty for every other one.
        roles: who may pass; empty for nobody.
        service: the service of the switch file.
        pages: whether the edge's own error pages stand in for the service's.
        upload: whether the upload limits hold.
        static: whether answers may be cached.
        priority: the router with the highest one wins.
    """

    name: str
    path: str
    path_regexp: str
    methods: list[str]
    roles: list[str]
    service: str
    pages: bool
    upload: bool
    static: bool
    priority: int


def policy_problems(
    policy: t.Any, roles: t.Any, routes: Sequence[Mapping[str, t.Any]], variable: str = "edge_policy"
) -> list[str]:
    """One sentence for each thing that is wrong with a policy; an empty list when it can be enforced.

    Args:
        policy: the rules as they came from the inventory.
        roles: the roles there are.
        routes: as in :func:`policy_routers`.
        variable: what the inventory calls the policy, for the sentences.
    """
    if not _is_list(roles) or not roles:
        return ["edge_roles must list the roles there are, such as [user, trainer, admin]."]
    problems = [
        f"edge_roles has '{role}', which is no name for a role: use lower-case letters, digits, '-' and '_'."
        for role in roles
        if not isinstance(role, str) or not _ROLE.fullmatch(role)
    ]
    if ANYONE in roles:
        problems.append(f"edge_roles has '{ANYONE}', which stands for everybody and is always there.")
    if NOBODY in roles:
        problems.append(f"edge_roles has '{NOBODY}', which stands for a rule without roles; take another name.")
    problems += _route_problems(routes)
    if not _is_list(policy) or not policy:
        return [*problems, f"{variable} must be a list of rules, such as [{{path: /, methods: [GET], roles: [user]}}]."]
    for index, rule in enumerate(policy):
        problems += _rule_problems(f"{variable}[{index}]", rule, roles)
    if not problems:
        problems += _overlaps(policy, variable)
        problems += _ambiguous_routes(policy, routes, variable)
    return problems


def _route_problems(routes: t.Any) -> list[str]:
    if not _is_list(routes):
        return ["edge_routes must be a list of routes, such as [{prefix: /api, service: backend}]."]
    problems = []
    seen: dict[str, int] = {}
    for index, route in enumerate(routes):
        where = f"edge_routes[{index}]"
        prefix, service = (route.get(key) if isinstance(route, Mapping) else None for key in ("prefix", "service"))
        if not isinstance(service, str) or not service:
            problems.append(f"{where}.service is '{service}'; name a service of the switch file, such as backend.")
        if not isinstance(prefix, str) or not _is_path(prefix) or "*" in prefix:
            problems.append(
                f"{where}.prefix is '{prefix}'; write it like /api, without * and without a slash at its end, "
                f"at most {_DEPTH} segments."
            )
        elif prefix.lower() in seen:
            first = seen[prefix.lower()]
            problems.append(f"edge_routes[{first}] and [{index}] both have the prefix {prefix}; leave one.")
        else:
            seen[prefix.lower()] = index
    return problems


def _is_list(value: t.Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, (str, bytes))


def _rule_problems(where: str, rule: t.Any, roles: Sequence[str]) -> list[str]:
    if not isinstance(rule, Mapping):
        return [f"{where} must be a mapping with path, methods and roles."]
    problems = [
        f"{where} has the unknown key '{key}'; the keys are {', '.join(sorted(_KEYS))}."
        for key in rule
        if key not in _KEYS
    ]
    problems += [f"{where} lacks '{key}'." for key in ("path", "roles") if key not in rule]
    problems += [
        f"{where}.{key} must be true or false."
        for key in ("upload", "static")
        if not isinstance(rule.get(key, False), bool)
    ]
    if "path" in rule and not _is_path(rule["path"]):
        problems.append(
            f"{where}.path is '{rule['path']}'; write it like /api/documents/*/feedback, without a slash at its end, "
            f"at most {_DEPTH} segments."
        )
    problems += _name_problems(f"{where}.roles", rule.get("roles", []), [*roles, ANYONE], "role")
    problems += _name_problems(f"{where}.methods", rule.get("methods", []), METHODS, "method")
    if _is_list(rule.get("methods")) and not rule["methods"]:
        problems.append(f"{where}.methods is empty; name methods, or leave the key out for all of them.")
    return problems


def _is_path(path: t.Any) -> bool:
    if not isinstance(path, str) or not path.startswith("/"):
        return False
    segments = _pattern(path)
    return (
        len(segments) <= _DEPTH
        and ("/" + "/".join(segments)) == path.lower()
        and all(
            segment == "*" or (_SEGMENT.fullmatch(segment) is not None and segment.strip(".") != "")
            for segment in segments
        )
    )


def _name_problems(where: str, names: t.Any, known: Sequence[str], what: str) -> list[str]:
    if not _is_list(names):
        return [f"{where} must be a list of {what}s."]
    return [
        f"{where} has the unknown {what} '{name}'; the {what}s are {', '.join(map(str, known))}."
        for name in names
        if name not in known
    ]


def _pattern(path: str) -> Pattern:
    # Upper and lower case are one: an application that tells them apart answers 404, one that does not is not deceived.
    return tuple(segment for segment in path.lower().split("/") if segment)


def _methods(rule: Rule) -> frozenset[str]:
    return frozenset(rule.get("methods") or METHODS)


def _overlaps(policy: Sequence[Rule], variable: str) -> Iterator[str]:
    patterns = {_pattern(rule["path"]) for rule in policy}
    for (first, one), (second, other) in itertools.combinations(enumerate(policy), 2):
        a, b = _pattern(one["path"]), _pattern(other["path"])
        if a == b:
            common = _methods(one) & _methods(other)
            if common:
                yield (
                    f"{variable}[{first}] and [{second}] both decide about {' '.join(sorted(common))} {one['path']}; "
                    "leave one rule for each path and method."
                )
        elif _meet(a, b) and not _covers(a, b) and not _covers(b, a) and _both(a, b) not in patterns:
            yield (
                f"{variable}[{first}] ({one['path']}) and [{second}] ({other['path']}) both cover "
                f"/{'/'.join(_both(a, b))}, and neither is more specific; write a rule for that path, or change one of "
                "the two."
            )


def _ambiguous_routes(policy: Sequence[Rule], routes: Sequence[Mapping[str, t.Any]], variable: str) -> Iterator[str]:
    for index, rule in enumerate(policy):
        for route in routes:
            prefix = _pattern(route["prefix"])
            start = _pattern(rule["path"])[: len(prefix)]
            if len(start) == len(prefix) and start != prefix and _meet(start, prefix):
                yield (
                    f"{variable}[{index}].path is '{rule['path']}', which leaves open whether the route "
                    f"{route['prefix']} is meant; write the route's prefix instead of its *."
                )


def _meet(a: Pattern, b: Pattern) -> bool:
    """Whether some path is covered by both."""
    return all(x == y or "*" in (x, y) for x, y in zip(a, b, strict=False))


def _both(a: Pattern, b: Pattern) -> Pattern:
    """What covers exactly the paths both cover, when they meet."""
    return tuple(x if y == "*" else y for x, y in itertools.zip_longest(a, b, fillvalue="*"))


def policy_routers(policy: Sequence[Rule], routes: Sequence[Mapping[str, t.Any]]) -> list[Router]:
    """The routers that enforce a policy without problems (:func:`policy_problems`), the most specific first.

    Args:
        policy: the rules.
        routes: ``prefix`` and ``service`` of each route, and ``pages``; the longest prefix wins. A rule above a route's
            prefix also decides about the route.

    Returns:
        For each path of the policy or of a route: a router for each rule's methods, and one that denies the rest.
    """
    rules: dict[Pattern, list[Rule]] = {}
    for rule in policy:
        rules.setdefault(_pattern(rule["path"]), []).append(rule)
    paths = {*rules, *(_pattern(route["prefix"]) for route in routes)}
    routers: list[Router] = []
    # By name where neither is more specific: the same policy always gives the same routers.
    for path in sorted(paths, key=lambda one: (_specificity(one), one), reverse=True):
        route = _route(path, routes)
        if route is None:
            continue
        deciding = rules.get(max((one for one in rules if _covers(one, path)), key=_specificity, default=()), [])
        for rule in deciding:
            routers.append(_router(path, route, rule))
        routers.append(_router(path, route, None))
    return _named(routers)


def _specificity(path: Pattern) -> tuple[int, tuple[bool, ...]]:
    """A key that is greater for what is more specific; among what is neither, the order does not matter."""
    return len(path), tuple(segment != "*" for segment in path)


def _covers(pattern: Pattern, path: Pattern) -> bool:
    """Whether ``pattern`` covers all that ``path`` covers."""
    return len(pattern) <= len(path) and all(x in ("*", y) for x, y in zip(pattern, path, strict=False))


def _route(path: Pattern, routes: Iterable[Mapping[str, t.Any]]) -> Mapping[str, t.Any] | None:
    covering = [route for route in routes if _covers(_pattern(route["prefix"]), path)]
    return max(covering, key=lambda route: len(_pattern(route["prefix"])), default=None)


def _router(path: Pattern, route: Mapping[str, t.Any], rule: Rule | None) -> Router:
    length, literal = _specificity(path)
    # Literal segments count from the left, so the order is that of _specificity; 10 segments stay below 10000.
    weight = sum(2 ** (length - index) for index, is_literal in enumerate(literal) if is_literal)
    body = "".join("/[^/]+" if segment == "*" else "/" + re.escape(segment) for segment in path)
    return {
        "name": "",
        "path": "/" + "/".join(path),
        "path_regexp": f"(?i)^{body}(/|$)",
        "methods": [] if rule is None else [method for method in METHODS if method in _methods(rule)],
        "roles": [] if rule is None else list(rule["roles"]),
        "service": route["service"],
        "pages": bool(route.get("pages", False)),
        "upload": rule is not None and bool(rule.get("upload", False)),
        "static": rule is not None and bool(rule.get("static", False)),
        "priority": _PRIORITY + length * 10000 + weight * 2 + (rule is not None),
    }


def _named(routers: list[Router]) -> list[Router]:
    for index, router in enumerate(routers):
        slug = re.sub(r"[^a-z0-9]+", "-", router["path"].lower().replace("*", "any")).strip("-") or "root"
        every = len(router["methods"]) == len(METHODS)
        methods = "any" if every else "-".join(method.lower() for method in router["methods"]) or "other"
        router["name"] = f"{slug}-{methods}-{index}"
    return routers

# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

import re
import typing as t

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.flowaudit.ops.plugins.module_utils import access_policy
from ansible_collections.flowaudit.ops.tests.unit.conftest import CHECKOUT

ROLES = ("user", "trainer", "admin")
ROUTES = ({"prefix": "/api", "service": "backend"}, {"prefix": "/", "service": "frontend", "pages": True})

Rules = list[dict[str, t.Any]]


def rule(path: str, *roles: str, **more: t.Any) -> dict[str, t.Any]:
    return {"path": path, "roles": list(roles), **more}


def problems(*policy: t.Any, roles: t.Any = ROLES, routes: t.Any = ROUTES) -> list[str]:
    return access_policy.policy_problems(list(policy), roles, routes)


# ── problems ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_roles_own_policy_has_no_problem() -> None:
    defaults = yaml.safe_load((CHECKOUT / "roles/edge/defaults/main.yml").read_text())
    assert access_policy.policy_problems(defaults["edge_policy"], defaults["edge_roles"], defaults["edge_routes"]) == []


@pytest.mark.parametrize("roles", [None, [], "user", 1, {"user": 1}])
def test_roles_must_be_a_list(roles: t.Any) -> None:
    assert problems(rule("/", "user"), roles=roles) == [
        "edge_roles must list the roles there are, such as [user, trainer, admin]."
    ]


@pytest.mark.parametrize("role", ["", "User", "1st", "a b", "a+b", "a:b", "a" * 32, "user\n", 5, None, ["a"]])
def test_a_role_whose_name_is_none_is_a_problem(role: t.Any) -> None:
    assert problems(rule("/", "user"), roles=["user", role]) == [
        f"edge_roles has '{role}', which is no name for a role: use lower-case letters, digits, '-' and '_'."
    ]


def test_what_stands_for_everybody_or_nobody_is_no_role() -> None:
    assert problems(rule("/", "user"), roles=["user", "anyone", "nobody"]) == [
        "edge_roles has 'anyone', which stands for everybody and is always there.",
        "edge_roles has 'nobody', which stands for a rule without roles; take another name.",
    ]


@pytest.mark.parametrize("policy", [None, [], "GET /", {"path": "/"}, 1])
def test_a_policy_must_be_a_list(policy: t.Any) -> None:
    assert access_policy.policy_problems(policy, ROLES, ROUTES, "my_policy") == [
        "my_policy must be a list of rules, such as [{path: /, methods: [GET], roles: [user]}]."
    ]


@pytest.mark.parametrize("wrong", [None, "/", ["/"], 1])
def test_a_rule_must_be_a_mapping(wrong: t.Any) -> None:
    assert problems(rule("/", "user"), wrong) == ["edge_policy[1] must be a mapping with path, methods and roles."]


def test_a_rule_needs_a_path_and_roles_and_nothing_unknown() -> None:
    assert problems({"method": ["GET"]}) == [
        "edge_policy[0] has the unknown key 'method'; the keys are methods, path, roles, static, upload.",
        "edge_policy[0] lacks 'path'.",
        "edge_policy[0] lacks 'roles'.",
    ]


@pytest.mark.parametrize("key", ["upload", "static"])
@pytest.mark.parametrize("value", ["yes", 1, None, []])
def test_a_flag_is_true_or_false(key: str, value: t.Any) -> None:
    assert problems(rule("/", "user", **{key: value})) == [f"edge_policy[0].{key} must be true or false."]


@pytest.mark.parametrize(
    "path",
    [
        None,
        1,
        "",
        "api",
        "/api/",
        "//api",
        "/api//x",
        "/./x",
        "/../x",
        "/...",
        "/a b",
        "/a;b",
        "/a%2e",
        "/ä",
        "/a*",
        "/**",
        "/{id}",
        "/a?b",
        "/a\n",
        "/a`b",
        "/1/2/3/4/5/6/7/8/9/10/11",
    ],
)
def test_a_path_that_is_none_is_a_problem(path: t.Any) -> None:
    assert problems({"path": path, "roles": []}) == [
        f"edge_policy[0].path is '{path}'; write it like /api/documents/*/feedback, without a slash at its end, "
        "at most 10 segments."
    ]


@pytest.mark.parametrize("path", ["/", "/*", "/api", "/api/*/x", "/.well-known/a_b~c-d.e", "/1/2/3/4/5/6/7/8/9/10"])
def test_a_path_is_segments_and_stars(path: str) -> None:
    assert problems(rule(path, "user"), routes=[]) == []


@pytest.mark.parametrize("names", [None, "user", {"user": 1}, 1])
def test_roles_and_methods_are_lists(names: t.Any) -> None:
    assert problems({"path": "/", "roles": names}) == ["edge_policy[0].roles must be a list of roles."]
    assert problems({"path": "/", "roles": [], "methods": names}) == [
        "edge_policy[0].methods must be a list of methods."
    ]


@pytest.mark.parametrize("name", ["auditor", 5, None, ["user"]])
def test_an_unknown_role_is_a_problem(name: t.Any) -> None:
    assert problems({"path": "/", "roles": ["user", name]}) == [
        f"edge_policy[0].roles has the unknown role '{name}'; the roles are user, trainer, admin, anyone."
    ]


def test_an_unknown_role_is_named_also_when_a_role_is_none() -> None:
    assert len(problems(rule("/", "auditor"), roles=["user", 5])) == 2


@pytest.mark.parametrize("name", ["get", "CONNECT", "TRACE", "*", 1])
def test_an_unknown_method_is_a_problem(name: t.Any) -> None:
    assert problems({"path": "/", "roles": [], "methods": [name]}) == [
        f"edge_policy[0].methods has the unknown method '{name}'; "
        "the methods are GET, HEAD, OPTIONS, POST, PUT, PATCH, DELETE."
    ]


def test_no_methods_are_not_all_methods() -> None:
    assert problems(rule("/", "user", methods=[])) == [
        "edge_policy[0].methods is empty; name methods, or leave the key out for all of them."
    ]


def test_every_problem_is_named_at_once() -> None:
    assert len(problems(None, rule("x", "auditor", methods=["get"]), roles=["user", "A"])) == 5


# ── rules against each other ────────────────────────────────────────────────────────────────────────────────────────


def test_two_rules_about_the_same_are_a_problem() -> None:
    assert problems(rule("/a", "user"), rule("/a", "admin", methods=["PUT", "GET"])) == [
        "edge_policy[0] and [1] both decide about GET PUT /a; leave one rule for each path and method."
    ]
    assert problems(rule("/a", "user", methods=["GET"]), rule("/a", "admin", methods=["PUT"])) == []


@pytest.mark.parametrize(
    ("one", "other", "both"),
    [
        ("/a/*", "/*/b", "/a/b"),
        ("/*/b/*", "/*/*/c", "/*/b/c"),
        # The longer one would open what is below the shorter one.
        ("/admin", "/*/*/feedback", "/admin/*/feedback"),
        ("/*/b", "/a", "/a/b"),
    ],
)
def test_rules_of_which_neither_is_more_specific_are_a_problem(one: str, other: str, both: str) -> None:
    sentence = (
        f"edge_policy[0] ({one}) and [1] ({other}) both cover {both}, and neither is more specific; "
        "write a rule for that path, or change one of the two."
    )
    assert problems(rule(one), rule(other), routes=[]) == [sentence]
    # What the sentence says helps.
    assert problems(rule(one), rule(other), rule(both), routes=[]) == []


@pytest.mark.parametrize(
    ("one", "other"),
    [("/", "/*"), ("/a", "/a/*"), ("/*", "/a/b"), ("/a/*", "/b/*"), ("/a/*/c", "/a/b/c"), ("/a", "/b/*")],
)
def test_rules_of_which_one_is_more_specific_or_that_never_meet_are_none(one: str, other: str) -> None:
    assert problems(rule(one), rule(other), routes=[]) == []


# ── routes ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("prefix", [None, "", "api", "/api/", "/*", "/a/*/b", "/a b", 1])
def test_a_prefix_that_is_none_is_a_problem(prefix: t.Any) -> None:
    assert problems(rule("/"), routes=[{"prefix": prefix, "service": "x"}]) == [
        f"edge_routes[0].prefix is '{prefix}'; write it like /api, without * and without a slash at its end, "
        "at most 10 segments."
    ]


@pytest.mark.parametrize("service", [None, "", 1])
def test_a_route_leads_somewhere(service: t.Any) -> None:
    assert problems(rule("/"), routes=[{"prefix": "/", "service": service}]) == [
        f"edge_routes[0].service is '{service}'; name a service of the switch file, such as backend."
    ]


def test_routes_are_a_list_of_mappings() -> None:
    assert problems(rule("/"), routes={"/": "x"}) == [
        "edge_routes must be a list of routes, such as [{prefix: /api, service: backend}]."
    ]
    assert len(problems(rule("/"), routes=["/"])) == 2


def test_a_prefix_that_comes_twice_is_a_problem() -> None:
    assert problems(rule("/"), routes=[*ROUTES, {"prefix": "/api", "service": "other"}]) == [
        "edge_routes[0] and [2] both have the prefix /api; leave one."
    ]


def test_a_rule_must_not_leave_its_route_open() -> None:
    assert problems(rule("/*/documents", "user")) == [
        "edge_policy[0].path is '/*/documents', which leaves open whether the route /api is meant; "
        "write the route's prefix instead of its *."
    ]
    # Above a route a rule leaves nothing open: the route's own router carries it.
    assert problems(rule("/*", "user"), routes=[{"prefix": "/api/v1", "service": "x"}, ROUTES[1]]) == []


# ── routers ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_routers_come_with_the_most_specific_first() -> None:
    policy = [
        rule("/", "user", methods=["GET"], static=True),
        rule("/api"),
        rule("/api/docs/*", "admin", upload=True),
        rule("/api/docs/new", "anyone", methods=["POST", "PUT"]),
        rule("/api/docs/new", "user", methods=["GET"]),
    ]
    assert problems(*policy) == []
    routers = access_policy.policy_routers(policy, ROUTES)
    assert [(router["name"], router["path_regexp"], router["roles"], router["service"]) for router in routers] == [
        ("api-docs-new-post-put-0", "(?i)^/api/docs/new(/|$)", ["anyone"], "backend"),
        ("api-docs-new-get-1", "(?i)^/api/docs/new(/|$)", ["user"], "backend"),
        ("api-docs-new-other-2", "(?i)^/api/docs/new(/|$)", [], "backend"),
        ("api-docs-any-any-3", "(?i)^/api/docs/[^/]+(/|$)", ["admin"], "backend"),
        ("api-docs-any-other-4", "(?i)^/api/docs/[^/]+(/|$)", [], "backend"),
        ("api-any-5", "(?i)^/api(/|$)", [], "backend"),
        ("api-other-6", "(?i)^/api(/|$)", [], "backend"),
        ("root-get-7", "(?i)^(/|$)", ["user"], "frontend"),
        ("root-other-8", "(?i)^(/|$)", [], "frontend"),
    ]
    priorities = [router["priority"] for router in routers]
    assert sorted(priorities, reverse=True) == priorities
    assert 1000 <= min(priorities) <= max(priorities) < 800000
    assert [router["upload"] for router in routers] == [False] * 3 + [True] + [False] * 5
    assert [router["static"] for router in routers] == [False] * 7 + [True, False]
    assert [router["pages"] for router in routers] == [False] * 7 + [True] * 2
    assert routers[3]["methods"] == list(access_policy.METHODS)
    assert routers[4]["methods"] == []


def test_routers_of_equal_rank_come_by_name() -> None:
    """Else their names, and with them the file on the host, would differ from run to run."""
    names = [f"/{letter}{number}" for letter in "abcdef" for number in range(20)]
    routers = access_policy.policy_routers([rule(name, "user") for name in names], ROUTES)
    found = list(dict.fromkeys(router["path"] for router in routers))
    assert [path for path in found if path in names] == sorted(names, reverse=True)


def test_a_route_no_rule_names_gets_the_rule_above_it() -> None:
    routers = access_policy.policy_routers([rule("/", "user")], ROUTES)
    assert [(router["path"], router["roles"], router["service"]) for router in routers] == [
        ("/api", ["user"], "backend"),
        ("/api", [], "backend"),
        ("/", ["user"], "frontend"),
        ("/", [], "frontend"),
    ]


def test_a_route_above_every_rule_is_denied() -> None:
    routers = access_policy.policy_routers([rule("/api", "user")], [ROUTES[1]])
    assert [(router["path"], router["roles"]) for router in routers] == [("/api", ["user"]), ("/api", []), ("/", [])]


def test_a_rule_no_route_covers_has_no_router() -> None:
    assert access_policy.policy_routers([rule("/other", "user")], [ROUTES[0]])[0]["path"] == "/api"


# ── the routers decide as the rules read ────────────────────────────────────────────────────────────────────────────


def covers(path: str, segments: list[str]) -> bool:
    """Whether a rule's path or a route's prefix stands for a path, segment by segment, in upper or lower case."""
    wanted = path.split("/")[1:] if path != "/" else []
    if len(wanted) > len(segments):
        return False
    return all((w == "*" and s != "") or w.lower() == s.lower() for w, s in zip(wanted, segments, strict=False))


def reading(policy: Rules, routes: Rules, method: str, path: str) -> tuple[frozenset[str], str | None]:
    """(who may pass, the service), from what the rules say and nothing else."""
    path = path or "/"  # which it means (RFC 9110, 4.2.3)
    if not path.startswith("/"):
        return frozenset(), None
    segments = path.split("/")[1:]
    leading = sorted((r for r in routes if covers(r["prefix"], segments)), key=lambda r: len(r["prefix"]))
    if not leading:
        return frozenset(), None
    covering = [r for r in policy if covers(r["path"], segments)]
    # The one that covers only what every other covers, too.
    deciding = [
        r
        for r in covering
        if all(covers(other["path"], r["path"].split("/")[1:] if r["path"] != "/" else []) for other in covering)
    ]
    paths_left = {r["path"].lower() for r in deciding}
    assert len(paths_left) == (1 if covering else 0), "a policy without problems leaves this open"
    roles = [r["roles"] for r in deciding if method in r.get("methods", access_policy.METHODS)]
    assert len(roles) <= 1
    return frozenset(roles[0] if roles else ()), leading[-1]["service"]


def decision(routers: list[access_policy.Router], method: str, path: str) -> tuple[frozenset[str], str | None]:
    """(who may pass, the service) by the router that Traefik takes."""
    matching = [
        router
        for router in routers
        # RE2's $ is the end of the text; Python's also stands before a line feed at the end.
        if re.search(router["path_regexp"].replace("$", r"\Z"), path)
        and (not router["methods"] or method in router["methods"])
    ]
    if not matching:
        return frozenset(), None
    assert len({router["priority"] for router in matching}) == len(matching), "Traefik takes either of two"
    first = max(matching, key=lambda router: router["priority"])
    return frozenset(first["roles"]), first["service"]


SEGMENTS = ["a", "b", "c.d", "e-f", "A"]
paths = st.lists(st.sampled_from([*SEGMENTS, "*"]), max_size=4).map(lambda segments: "/" + "/".join(segments))
rules = st.builds(
    lambda path, roles, methods: {"path": path, "roles": roles} | ({"methods": methods} if methods else {}),
    paths,
    st.lists(st.sampled_from([*ROLES, "anyone"]), unique=True),
    st.none() | st.lists(st.sampled_from(access_policy.METHODS), min_size=1, max_size=4, unique=True),
)
prefixes = st.lists(st.sampled_from(SEGMENTS), max_size=3).map(lambda segments: "/" + "/".join(segments))


@st.composite
def policies(draw: st.DrawFn) -> tuple[Rules, Rules]:
    """A policy without problems and its routes: a rule that would be a problem is left out."""
    routes = [
        {"prefix": prefix, "service": f"service-{index}"}
        for index, prefix in enumerate(draw(st.lists(prefixes, min_size=1, max_size=4, unique_by=str.lower)))
    ]
    policy: Rules = []
    for one in draw(st.lists(rules, min_size=1, max_size=10)):
        if not problems(*policy, one, routes=routes):
            policy.append(one)
    return policy or [rule("/")], routes


TRICKS: list[t.Callable[[str], str]] = [
    lambda path: path,
    lambda path: path + "/",
    lambda path: path + "//",
    lambda path: "/" + path,
    lambda path: path.replace("/", "//"),
    lambda path: path.replace("/", "/./"),
    lambda path: path + "/../a",
    lambda path: path.upper(),
    lambda path: path + ";x",
    lambda path: path.replace("a", "%61"),
    lambda path: path + "/%2e%2e/a",
    lambda path: path.replace(".", "x"),
    lambda path: path + "%2fb",
    lambda path: path + "x",
    lambda path: path + "\n",
    lambda path: path + "/a" * 5000,
    lambda path: path[1:],
    lambda path: path.replace("/", "\\"),
]


@st.composite
def requests(draw: st.DrawFn, policy: Rules, routes: Rules) -> tuple[str, str]:
    """A request near a rule or a route, or anywhere."""
    base = draw(st.sampled_from([*(r["path"] for r in policy), *(r["prefix"] for r in routes), "/"]))
    filled = [draw(st.sampled_from(SEGMENTS)) if segment == "*" else segment for segment in base.split("/")]
    path = "/".join([*filled, *draw(st.lists(st.sampled_from(SEGMENTS), max_size=2))])
    path = draw(st.sampled_from(TRICKS))(path if path.startswith("//") is False else path[1:])
    return draw(st.sampled_from([*access_policy.METHODS, "TRACE", "CONNECT", "PROPFIND", "get"])), path


@settings(max_examples=300)
@given(data=st.data())
def test_the_routers_decide_as_the_rules_read(data: st.DataObject) -> None:
    policy, routes = data.draw(policies())
    assert problems(*policy, routes=routes) == []
    routers = access_policy.policy_routers(policy, routes)
    assert len({router["name"] for router in routers}) == len(routers)
    for method, path in data.draw(st.lists(requests(policy, routes), min_size=1, max_size=12)):
        assert decision(routers, method, path) == reading(policy, routes, method, path), (method, path[:80])


def test_the_roles_own_policy_decides_as_it_reads() -> None:
    defaults = yaml.safe_load((CHECKOUT / "roles/edge/defaults/main.yml").read_text())
    policy, routes = defaults["edge_policy"], defaults["edge_routes"]
    routers = access_policy.policy_routers(policy, routes)
    looked_at = set()
    for one in policy:
        for below in ("", "/x", "/x/y"):
            for trick in TRICKS:
                for method in (*access_policy.METHODS, "TRACE"):
                    path = trick(one["path"].removesuffix("/") + below or "/")
                    assert decision(routers, method, path) == reading(policy, routes, method, path), (method, path[:80])
                    looked_at.add((method, path))
    assert len(looked_at) > 1000

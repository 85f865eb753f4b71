# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

import typing as t

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.flowaudit.ops.plugins.module_utils import edge_users
from ansible_collections.flowaudit.ops.plugins.module_utils.edge_users import Token, Users
from ansible_collections.flowaudit.ops.plugins.module_utils.errors import FlowauditError

ROLES = ["user", "trainer", "admin"]
HASHES = [f"$2y$10${letter * 53}" for letter in "abc"]
DIGESTS = [letter * 64 for letter in "012"]
USERS = Users(
    passwords={"anna": HASHES[0], "berta": HASHES[1]},
    roles={"anna": "trainer", "berta": "user", "importer": "user"},
    tokens={"importer": Token(DIGESTS[0], "user"), "anna": Token(DIGESTS[1], "trainer")},
)
TEXTS = {
    "passwords": f"anna:{HASHES[0]}\nberta:{HASHES[1]}\n",
    "roles": "anna trainer\nberta user\nimporter user\n",
    "tokens": f"{DIGESTS[0]} importer:user\n{DIGESTS[1]} anna:trainer\n",
}
EMPTY = dict.fromkeys(edge_users.FILES, "")


# ── reading and writing ─────────────────────────────────────────────────────────────────────────────────────────────


def test_three_texts_are_users_and_the_same_texts_again() -> None:
    users = edge_users.parse(TEXTS, "/d")
    assert users == USERS
    assert edge_users.render(users) == TEXTS


def test_empty_files_have_no_users() -> None:
    assert edge_users.parse(EMPTY, "/d") == Users()
    assert edge_users.render(Users()) == EMPTY


def test_a_last_line_without_an_end_is_a_line() -> None:
    assert edge_users.parse({**EMPTY, "roles": "anna user"}, "/d").roles == {"anna": "user"}


FOREIGN = {
    "passwords": [
        "",
        "# a comment",
        "anna",
        "anna:$apr1$abcdefgh$0123456789abcdefghijkl",
        "anna:{SHA}2jmj7l5rSw0yVb/vlWAYkK/YBwk=",
        "anna:password",
        f"Anna:{HASHES[0]}",
        f"anna:{HASHES[0]} ",
        f"anna:{HASHES[0]}\r",
        f"anna:{HASHES[0][:-1]}",
        "anna:$2y$32$" + "a" * 53,
        f"{'a' * 65}:{HASHES[0]}",
    ],
    "roles": [
        "",
        "anna",
        "anna  user",
        "anna user admin",
        " anna user",
        "anna User",
        "-anna user",
        "anna\tuser",
        "ä user",
    ],
    "tokens": ["", f"{DIGESTS[0]} anna", f"{DIGESTS[0]} :user", f"{DIGESTS[0][1:]} anna:user", f"{'A' * 64} anna:user"],
}


@pytest.mark.parametrize(("file", "line"), [(file, line) for file, lines in FOREIGN.items() for line in lines])
def test_a_line_that_is_none_of_ours_is_refused_and_not_shown(file: str, line: str) -> None:
    form = {"passwords": "name:hash with a hash of bcrypt", "roles": "name role", "tokens": "digest name:role"}[file]
    with pytest.raises(FlowauditError) as error:
        edge_users.parse({**TEXTS, file: f"{TEXTS[file]}{line}\n"}, "/d")
    number = TEXTS[file].count("\n") + 1
    assert str(error.value) == f"Line {number} of /d/{file} is not of the form '{form}'; correct or remove it."


@pytest.mark.parametrize(
    ("file", "line"),
    [("passwords", f"anna:{HASHES[2]}"), ("roles", "anna admin"), ("tokens", f"{DIGESTS[2]} anna:admin")],
)
def test_a_name_that_comes_twice_is_refused(file: str, line: str) -> None:
    with pytest.raises(FlowauditError) as error:
        edge_users.parse({**TEXTS, file: f"{TEXTS[file]}{line}\n"}, "/d")
    number = TEXTS[file].count("\n") + 1
    assert str(error.value) == f"Line {number} of /d/{file} names 'anna' a second time; remove one of the two lines."


def test_a_token_that_comes_twice_is_refused() -> None:
    with pytest.raises(FlowauditError) as error:
        edge_users.parse({**TEXTS, "tokens": f"{TEXTS['tokens']}{DIGESTS[0]} berta:user\n"}, "/d")
    assert str(error.value) == "Line 3 of /d/tokens has the token of another line; remove one of the two."


@pytest.mark.parametrize(
    ("text", "cost"), [(HASHES[0], 10), ("$2b$12$" + "a" * 53, 12), ("", 0), ("$apr1$x", 0), (HASHES[0] + "\n", 0)]
)
def test_the_cost_of_a_hash(text: str, cost: int) -> None:
    assert edge_users.cost(text) == cost


# ── what is shown ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_accounts_are_listed_by_name_and_without_hashes() -> None:
    assert USERS.accounts() == [
        {"name": "anna", "role": "trainer", "has_password": True, "has_token": True},
        {"name": "berta", "role": "user", "has_password": True, "has_token": False},
        {"name": "importer", "role": "user", "has_password": False, "has_token": True},
    ]


def test_what_an_interrupted_run_left_is_listed() -> None:
    left = Users(passwords={"a": HASHES[0]}, roles={"b": "user"}, tokens={"c": Token(DIGESTS[0], "admin")})
    assert left.accounts() == [
        {"name": "a", "role": "", "has_password": True, "has_token": False},
        {"name": "b", "role": "user", "has_password": False, "has_token": False},
        {"name": "c", "role": "admin", "has_password": False, "has_token": True},
    ]


@pytest.mark.parametrize(
    ("name", "new", "line"),
    [
        ("anna", [], "anna: trainer (password, token)\n"),
        ("anna", ["password"], "anna: trainer (new password, token)\n"),
        ("importer", ["token"], "importer: user (new token)\n"),
        ("nobody", [], ""),
    ],
)
def test_a_diff_shows_role_and_means(name: str, new: list[str], line: str) -> None:
    assert edge_users.describe(USERS.account(name), new) == line


def test_a_diff_shows_what_is_missing() -> None:
    left = Users(passwords={"a": HASHES[0]}, roles={"b": "user"})
    assert edge_users.describe(left.account("a")) == "a: no role (password)\n"
    assert edge_users.describe(left.account("b")) == "b: user (neither password nor token)\n"


# ── requests ────────────────────────────────────────────────────────────────────────────────────────────────────────

GOOD: dict[str, t.Any] = {"name": "anna", "role": "user", "roles": ROLES, "password": "correct horse", "minimum": 12}


def refuse(**changes: t.Any) -> str:
    with pytest.raises(FlowauditError) as error:
        edge_users.check_request(**{**GOOD, **changes})
    return str(error.value)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"role": None},
        {"password": None},
        {"name": "a"},
        {"name": "0.b_c-d"},
        {"name": "a" * 64},
        {"password": "x" * 72},
        {"password": "ä" * 36},
        {"password": "8 letter", "minimum": 8},
        {"password": "x" * 72, "minimum": 72},
        {"password": " : $ ' \" \\ # |"},
    ],
)
def test_a_request_that_is_right_passes(changes: dict[str, t.Any]) -> None:
    edge_users.check_request(**{**GOOD, **changes})


@pytest.mark.parametrize(
    "name", ["", "Anna", "anna lang", "anna:x", ".anna", "-anna", "a" * 65, "anna\n", "änna", "a/b"]
)
def test_a_name_that_is_none_is_refused(name: str) -> None:
    assert refuse(name=name) == (
        f"name is '{name}'; use up to 64 lower-case letters, digits, '.', '_' and '-', and begin with one of the "
        "first two."
    )


@pytest.mark.parametrize("role", ["auditor", "", "User"])
def test_an_unknown_role_is_refused(role: str) -> None:
    assert refuse(role=role) == f"role is '{role}'; the roles are user, trainer, admin."


def test_a_role_the_file_cannot_hold_is_refused() -> None:
    assert refuse(role="a b", roles=["a b"]) == "role is 'a b'; the roles are a b."


@pytest.mark.parametrize("minimum", [7, 73, 0, -1])
def test_a_minimum_that_is_none_is_refused(minimum: int) -> None:
    assert refuse(minimum=minimum) == f"password_minimum is {minimum}; give a number from 8 to 72."


@pytest.mark.parametrize(
    ("password", "sentence"),
    [
        ("", "The password of 'anna' has 0 characters; give it 12 or more."),
        ("x" * 11, "The password of 'anna' has 11 characters; give it 12 or more."),
        ("ä" * 11, "The password of 'anna' has 11 characters; give it 12 or more."),
        ("x" * 73, "The password of 'anna' has more than 72 bytes, of which bcrypt reads no more; shorten it."),
        ("ä" * 36 + "x", "The password of 'anna' has more than 72 bytes, of which bcrypt reads no more; shorten it."),
        *(
            (
                f"correct{odd}horse",
                "The password of 'anna' has a control character, which no browser sends; leave it out.",
            )
            for odd in ("\0", "\n", "\r", "\t", "\x7f", "\x85", "\ud800")
        ),
    ],
)
def test_a_password_that_would_not_work_is_refused_and_not_shown(password: str, sentence: str) -> None:
    assert refuse(password=password) == sentence


# ── changes ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_user_who_is_added_comes_last() -> None:
    after = edge_users.with_user(USERS, "carl", "admin", HASHES[2], DIGESTS[2])
    assert edge_users.render(after) == {
        "passwords": TEXTS["passwords"] + f"carl:{HASHES[2]}\n",
        "roles": TEXTS["roles"] + "carl admin\n",
        "tokens": TEXTS["tokens"] + f"{DIGESTS[2]} carl:admin\n",
    }


def test_a_user_who_is_changed_keeps_the_place_and_the_token_changes_its_role() -> None:
    after = edge_users.with_user(USERS, "anna", "admin", HASHES[0], DIGESTS[1])
    assert edge_users.render(after) == {
        "passwords": TEXTS["passwords"],
        "roles": "anna admin\nberta user\nimporter user\n",
        "tokens": f"{DIGESTS[0]} importer:user\n{DIGESTS[1]} anna:admin\n",
    }


def test_without_a_role_the_one_there_is_stays() -> None:
    assert edge_users.with_user(USERS, "anna", None, HASHES[0], DIGESTS[1]) == USERS
    only_token = Users(tokens={"c": Token(DIGESTS[0], "admin")})
    assert edge_users.with_user(only_token, "c", None, None, DIGESTS[0]).roles == {"c": "admin"}


def test_a_new_user_needs_a_role() -> None:
    with pytest.raises(FlowauditError) as error:
        edge_users.with_user(USERS, "carl", None, HASHES[2], None)
    assert str(error.value) == "User 'carl' has no role yet; give one."


def test_a_user_with_neither_password_nor_token_cannot_be() -> None:
    with pytest.raises(FlowauditError) as error:
        edge_users.with_user(USERS, "anna", None, None, None)
    assert str(error.value) == "User 'anna' would have neither password nor token; give one, or remove the user."


def test_a_user_who_is_removed_is_in_no_file() -> None:
    after = edge_users.without(USERS, "anna")
    assert after.account("anna") is None
    assert edge_users.render(after) == {
        "passwords": f"berta:{HASHES[1]}\n",
        "roles": "berta user\nimporter user\n",
        "tokens": f"{DIGESTS[0]} importer:user\n",
    }
    assert edge_users.without(after, "anna") == after


# ── the order of the files ──────────────────────────────────────────────────────────────────────────────────────────


def order(before: Users, after: Users, name: str = "anna") -> list[str]:
    return [file for file, _text in edge_users.steps(before, after, name)]


def test_who_is_added_gets_the_role_first() -> None:
    assert order(Users(), edge_users.with_user(Users(), "anna", "user", HASHES[0], DIGESTS[0])) == [
        "roles",
        "passwords",
        "tokens",
    ]


def test_who_is_removed_loses_password_and_token_first() -> None:
    assert order(USERS, edge_users.without(USERS, "anna")) == ["passwords", "tokens", "roles"]


def test_a_password_that_changes_with_the_role_is_taken_away_first() -> None:
    after = edge_users.with_user(USERS, "anna", "admin", HASHES[2], DIGESTS[1])
    assert order(USERS, after) == ["passwords", "roles", "passwords", "tokens"]


def test_a_password_that_changes_alone_is_replaced_at_once() -> None:
    after = edge_users.with_user(USERS, "anna", None, HASHES[2], DIGESTS[1])
    assert order(USERS, after) == ["passwords"]


def test_nothing_to_change_is_no_step() -> None:
    assert order(USERS, USERS) == []


states = st.builds(
    Users,
    passwords=st.dictionaries(st.sampled_from(["anna", "berta"]), st.sampled_from(HASHES)),
    roles=st.dictionaries(st.sampled_from(["anna", "berta"]), st.sampled_from(ROLES)),
    tokens=st.dictionaries(
        st.sampled_from(["anna", "berta"]),
        st.builds(Token, st.sampled_from(DIGESTS), st.sampled_from(ROLES)),
    ).filter(lambda tokens: len({token.digest for token in tokens.values()}) == len(tokens)),
)


def grants(texts: t.Mapping[str, str]) -> set[tuple[str, str, str | None]]:
    """(user, what the user comes with, role), as Apache reads the files."""
    roles = dict(line.split(" ") for line in texts["roles"].splitlines())
    by_password = (line.split(":", 1) for line in texts["passwords"].splitlines())
    by_token = (line.split(" ") for line in texts["tokens"].splitlines())
    return {(name, password, roles[name]) for name, password in by_password if name in roles} | {
        (who.split(":")[0], digest, who.split(":")[1]) for digest, who in by_token
    }


@given(before=states, role=st.sampled_from(ROLES), password=st.sampled_from([None, *HASHES]), removed=st.booleans())
def test_a_run_cut_off_anywhere_grants_nothing_that_neither_state_grants(
    before: Users, role: str, password: str | None, removed: bool
) -> None:
    digest = None if password in (None, HASHES[0]) else "f" * 64
    if password is None and not removed:
        digest = "f" * 64
    after = (
        edge_users.without(before, "anna") if removed else edge_users.with_user(before, "anna", role, password, digest)
    )
    texts = edge_users.render(before)
    allowed = grants(texts) | grants(edge_users.render(after))
    for file, text in edge_users.steps(before, after, "anna"):
        texts[file] = text
        assert grants(texts) <= allowed
        # What is left can be read again, and the same request completes it.
        assert edge_users.parse(texts, "/d").accounts() is not None
    assert texts == edge_users.render(after)
    assert edge_users.parse(texts, "/d") == after

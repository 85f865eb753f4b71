# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What is kept of a result, and what is taken out of it."""

from __future__ import annotations

import time
import typing as t

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.flowaudit.ops.plugins.module_utils.trail import redact

SECRET = "c4n4ry-Value+9"


class Tagged(str):
    """As Ansible's strings: one that says something else when it is asked, and stays what it is."""

    def __str__(self) -> str:
        return Tagged("decrypted")


@pytest.mark.parametrize(
    "text",
    [
        "password={}",
        "password: {}",
        'password : "{}"',
        "DB_PASSWORD={}",
        '{{"db-passwd": "{}"}}',
        "{{'client_secret': '{}'}}",
        "my.api_token = {}",
        "PGPASS={}",
        "kennwort: {}",
        "Authorization: Bearer {}",
        "Set-Cookie: session={}",
        "password:\n  {}",
        "run --db-password {} now",
        "run -token {}",
        "bearer {}",
        "Bearer {}",
        "basic {}=",
        "https://me:{}@example.org/x",
        "https://me:{}@@example.org/x",
        "https://me:a/{}/b@example.org/x",
        "https://{}@example.org/x",
        "git+ssh://git:{}@example.org",
        "-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----",
        "-----BEGIN OPENSSH PRIVATE KEY-----\n{}",
        "$ANSIBLE_VAULT;1.1;AES256\n{}",
        "$6$rounds=5000$salt${}",
        "$2b$12${}",
        "$argon2id$v=19$m=1${}",
    ],
)
@pytest.mark.parametrize("around", ["{}", "before\n{}", "x {} y"])
def test_what_looks_like_a_secret_is_withheld(text: str, around: str) -> None:
    whole = around.format(text.format(SECRET))
    for prose in (False, True):
        redacted = redact.redacted(whole, prose)
        assert SECRET not in redacted and redact.WITHHELD in redacted, redacted


@pytest.mark.parametrize(
    "secret",
    [
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl",
        "AKIAABCDEFGHIJKLMNOP",
        "ghp_0123456789abcdef",
        "github_pat_0123456789",
        "glpat-0123456789ab",
        "xoxb-0123456789ab",
        "hvs.0123456789ab",
    ],
)
def test_tokens_are_known_by_their_form(secret: str) -> None:
    assert redact.redacted(f"it is {secret}, keep it", prose=True) == f"it is {redact.WITHHELD}, keep it"


@pytest.mark.parametrize(
    "text",
    [
        "Set the password of the account",
        "Rotate tokens",
        "Install basic packages",
        "machine a login b password c",
        "https://example.org/path@v1?x=1",
        "me@example.org",
        "/srv/secrets.d/file",
        "compass: north"[8:],
        "a: b",
    ],
)
def test_prose_is_left_as_it_is(text: str) -> None:
    assert redact.redacted(text, prose=True) == text


def test_in_what_is_no_prose_a_blank_separates_name_and_value() -> None:
    assert redact.redacted(f"machine a login b password {SECRET}") == f"machine a login b password {redact.WITHHELD}"


@pytest.mark.parametrize(
    "part",
    [
        "a", "password", "password ", "password\n", "pass", "-pass", "token=", "toke", "eyJ-", "eyJa.", "a:", "a+", "a://",
        "a://b:", "-----BEGIN PRIVATE KEY-----", "PRIVATE KEY ", "$6$", "basic ", "Bearer a", "-", " ", "sk-a ", "@", "://",
    ],
)  # fmt: skip
@pytest.mark.parametrize("before", ["", "password", "-----BEGIN ", "https://", "bearer "])
def test_no_text_is_slow(before: str, part: str) -> None:
    """A host may send anything; what goes back and forth takes minutes for this much."""
    text = before + part * (60_000 // len(part))
    begun = time.process_time()
    redact.redacted(text)
    assert time.process_time() - begun < 5


def test_a_value_under_a_secret_name_is_withheld() -> None:
    assert redact.named("api_token", SECRET) == redact.WITHHELD
    assert redact.named("Passwort", SECRET) == redact.WITHHELD
    assert redact.named("rows", "42") == "42"


def test_a_string_of_ansible_becomes_one_of_its_own() -> None:
    for made in (redact.plain(Tagged("shown")), redact.exact(Tagged("shown"))):
        assert type(made) is str and made == "shown"
    assert redact.exact(42) == "42"
    assert redact.plain(42) == redact.plain(None) == redact.WITHHELD


def test_long_strings_are_cut_after_they_were_redacted() -> None:
    assert redact.plain("x" * 10_000) == "x" * redact.LONGEST_FIELD
    secret = "https://me:" + "p" * redact.LONGEST_FIELD + "@example.org"
    assert redact.plain(secret) == f"https://{redact.WITHHELD}@example.org"


def test_kept_are_the_fields_that_are_named() -> None:
    result = {"path": "/etc/x", "mode": "0644", "uid": 0, "diff": "x", "msg": SECRET, "owner": "ada", "size": 2**53}
    assert redact.Policy().kept("ansible.builtin.file", result) == {"path": "/etc/x", "mode": "0644", "uid": 0}
    assert redact.Policy().kept("some.other.module", result) == {}
    policy = redact.Policy({"some.other.module": ["owner", "absent"], "ansible.builtin.file": ["msg"]})
    assert policy.kept("some.other.module", result) == {"owner": "ada"}
    assert policy.kept("ansible.builtin.file", result)["msg"] == SECRET
    assert policy.kept("ansible.builtin.file", {"path": f"token={SECRET}"}) == {"path": f"token={redact.WITHHELD}"}


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        (True, True),
        (-5, -5),
        (2**53, None),
        (1.5, None),
        ({"a": 1}, None),
        (["a", 1], ["a", 1]),
        (["a", 1.5], None),
        (["password=x"], ["password=[withheld]"]),
        (list(range(60)), list(range(50))),
        (None, None),
    ],
)
def test_only_simple_values_are_kept(value: t.Any, kept: t.Any) -> None:
    found = redact.Policy({"m": ["field"]}).kept("m", {"field": value})
    assert found == ({} if kept is None else {"field": kept})


def test_the_text_of_a_diff_is_kept_where_it_is_of_states() -> None:
    policy = redact.Policy(diffs=frozenset({"some.own.module"}))
    assert policy.keeps_diff("ansible.builtin.file") and policy.keeps_diff("some.own.module")
    assert not policy.keeps_diff("ansible.builtin.copy") and not redact.Policy().keeps_diff("some.own.module")


def test_a_diff_says_how_many_lines_and_which() -> None:
    diff = redact.diff_of({"before": "a\nb\nc\n", "after": "a\nx\nc\nd\n"})
    assert diff is not None
    assert (diff.added, diff.removed) == (2, 1)
    assert diff.text.splitlines() == ["--- ", "+++ ", "@@ -1,3 +1,4 @@", " a", "-b", "+x", " c", "+d"]
    assert redact.diff_of({"before": "a", "after": "b"}, with_text=False) == redact.Diff(1, 1, "")


@given(st.lists(st.sampled_from("abc")), st.lists(st.sampled_from("abc")))
def test_the_figures_are_those_of_the_lines(before: list[str], after: list[str]) -> None:
    diff = redact.diff_of({"before": "\n".join(before), "after": "\n".join(after)})
    if before == after:
        assert diff is None
        return
    assert diff is not None and diff.added - diff.removed == len(after) - len(before)


def test_diffs_come_in_several_forms() -> None:
    states = redact.diff_of(
        {"before": {"mode": "0600", "path": "/x"}, "after": {"mode": "0644", "path": "/x", "n": {}}}
    )
    assert states is not None and (states.added, states.removed) == (2, 1)
    assert "-mode: 0600" in states.text and "+n: …" in states.text
    prepared = redact.diff_of(
        [{"prepared": "--- a\n+++ b\n+new\n-old\n-older\n"}, {"before": Tagged(""), "after": "y\n"}]
    )
    assert prepared is not None and (prepared.added, prepared.removed) == (2, 2)
    numbers = redact.diff_of({"before": {"a": 1, "b": None, "c": Tagged("x")}, "after": {"a": True}})
    assert numbers is not None and "+a: True" in numbers.text and "-b: None" in numbers.text and "-c: x" in numbers.text


@pytest.mark.parametrize("value", [None, [], {}, "text", 5, {"before": "a", "after": "a"}, {"before": 1, "after": 2}])
def test_what_says_nothing_is_no_diff(value: t.Any) -> None:
    assert redact.diff_of(value) is None


def test_the_text_of_a_diff_is_redacted_and_not_endless() -> None:
    diff = redact.diff_of({"before": "", "after": f"user: ada\npassword: {SECRET}\nnetrc password {SECRET}\n"})
    assert diff is not None and SECRET not in diff.text and "+user: ada" in diff.text
    many = redact.diff_of({"before": "", "after": "\n".join(f"line {number}" for number in range(5000))})
    assert many is not None and many.added == 5000 and many.text == "(a change in 5000 lines)"
    long = redact.diff_of({"before": "", "after": "\n".join("x" * 1000 for number in range(500))})
    assert long is not None and len(long.text) == redact.LONGEST_DIFF

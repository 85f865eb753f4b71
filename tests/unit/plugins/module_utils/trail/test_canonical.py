# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""JSON of which there is one form only."""

from __future__ import annotations

import json
import typing as t

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.flowaudit.ops.plugins.module_utils.errors import FlowauditError
from ansible_collections.flowaudit.ops.plugins.module_utils.trail import canonical

_KEYS = st.text(st.characters(max_codepoint=127), max_size=8)
_SCALARS = st.none() | st.booleans() | st.integers(-canonical.LARGEST, canonical.LARGEST) | st.text(max_size=20)
_VALUES = st.recursive(_SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_KEYS, inner, max_size=4))


class Tagged(str):
    """As Ansible's strings are: of a type of their own."""


def test_rfc_8785_string_and_literals() -> None:
    """What the example in 3.2.2 has of the subset (its numbers are floats)."""
    value = {"string": "\u20ac$\u000f\u000aA'\u0042\u0022\u005c\\\"/", "literals": [None, True, False]}
    canonical_form = '{"literals":[null,true,false],"string":"€$\\u000f\\nA\'B\\"\\\\\\\\\\"/"}'
    assert canonical.encode(value) == canonical_form.encode()


def test_rfc_8785_order_of_keys() -> None:
    """The example in 3.2.3, with the keys that are ASCII."""
    assert canonical.encode({"1": "One", "\r": "Carriage Return"}) == b'{"\\r":"Carriage Return","1":"One"}'


def test_rfc_8785_largest_integers() -> None:
    """Appendix B: the integers that every reader has."""
    value = {"largest": 9007199254740991, "smallest": -9007199254740991, "zero": 0}
    assert canonical.encode(value) == b'{"largest":9007199254740991,"smallest":-9007199254740991,"zero":0}'


@pytest.mark.parametrize(
    ("character", "form"),
    [
        ("\b", '"\\b"'),
        ("\t", '"\\t"'),
        ("\n", '"\\n"'),
        ("\f", '"\\f"'),
        ("\r", '"\\r"'),
        ("\x00", '"\\u0000"'),
        ("\x1f", '"\\u001f"'),
        ("\x7f", '"\x7f"'),
        ("\u2028", '"\u2028"'),
        ("😂", '"😂"'),
    ],
)
def test_rfc_8785_strings(character: str, form: str) -> None:
    assert canonical.encode({"a": character}) == b'{"a":' + form.encode() + b"}"


def test_no_unicode_is_replaced() -> None:
    """A file name that is no UTF-8 comes as a lone surrogate."""
    assert canonical.encode({"path": "/tmp/\udce4"}) == '{"path":"/tmp/�"}'.encode()
    assert canonical.encode({"path": "a\ud83d\ude02b\udce4"}) == '{"path":"a😂b�"}'.encode()


@given(st.dictionaries(_KEYS, _VALUES, max_size=6))
def test_one_line_that_means_the_same(value: dict[str, t.Any]) -> None:
    line = canonical.encode(value)
    assert b"\n" not in line
    decoded = canonical.decode(line)
    assert decoded == json.loads(line)
    assert canonical.encode(decoded) == line
    if all(ord(character) < 0xD800 for character in json.dumps(value, ensure_ascii=False)):
        assert decoded == value


@given(st.dictionaries(_KEYS, _SCALARS, max_size=6), st.randoms())
def test_the_order_of_keys_does_not_matter(value: dict[str, t.Any], chance: t.Any) -> None:
    items = list(value.items())
    chance.shuffle(items)
    assert canonical.encode(dict(items)) == canonical.encode(value)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"a": 1.0}, "An entry holds no float"),
        ({"a": [b"x"]}, "An entry holds no bytes"),
        ({"a": {"b": (1, 2)}}, "An entry holds no tuple"),
        ({"a": Tagged("x")}, "An entry holds no Tagged"),
        ({"a": 2**53}, "below 2\\*\\*53, not 9007199254740992"),
        ({"a": -(2**53)}, "below 2\\*\\*53"),
        ({1: "a"}, "a string of ASCII characters, not 1"),
        ({"ä": 1}, "a string of ASCII characters, not 'ä'"),
        ({Tagged("a"): 1}, "a string of ASCII characters"),
    ],
)
def test_what_has_no_one_form_is_refused(value: dict[t.Any, t.Any], message: str) -> None:
    with pytest.raises(FlowauditError, match=message):
        canonical.encode(value)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"", "no line of JSON"),
        (b"{", "no line of JSON"),
        (b'{"a":"\xff"}', "no line of JSON"),
        (b"[" * 100_000, "no line of JSON"),
        (b"[]", "no JSON object"),
        (b"null", "no JSON object"),
    ],
)
def test_a_line_that_is_no_object_is_named(line: bytes, message: str) -> None:
    with pytest.raises(FlowauditError, match=message):
        canonical.decode(line)

# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""JSON of which there is one form only (a subset of RFC 8785, JSON Canonicalization Scheme).

One line of UTF-8, keys sorted, no blanks, no floats, integers below 2**53. The bytes that are stored are the ones that
are hashed; a reader never has to make them again.
"""

from __future__ import annotations

# Exactly this type: true is an integer, and Ansible's values are strings that may say something else.
# pylint: disable=unidiomatic-typecheck
import json
import typing as t

from ..errors import FlowauditError

LARGEST = 2**53 - 1  # beyond it, readers in other languages lose digits (RFC 8785, 3.2.2.3)

Value = t.Union[None, bool, int, str, "list[Value]", "dict[str, Value]"]


def encode(value: dict[str, t.Any]) -> bytes:
    """One line, without its newline.

    Strings that are no Unicode (lone surrogates, as file names may carry) get U+FFFD in their place.

    Raises:
        FlowauditError: a value is of a type, or an integer of a size, that the form does not know.
    """
    _check(value)
    text = _ENCODER.encode(value)
    try:
        return text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace").encode()


def decode(line: bytes) -> dict[str, t.Any]:
    """The object of a line.

    Raises:
        FlowauditError: it is not one JSON object.
    """
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise FlowauditError(f"This is no line of JSON: {line[:40]!r}") from error
    if not isinstance(value, dict):
        raise FlowauditError(f"This is no JSON object: {line[:40]!r}")
    return value


_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False, sort_keys=True, separators=(",", ":"))


def _check(value: t.Any) -> None:
    # Exact types: a subclass (Ansible's tagged and encrypted strings) may do something else when it is written.
    kind = type(value)
    if kind is dict:
        for key in value:
            if type(key) is not str or not key.isascii():
                raise FlowauditError(f"A key of an entry must be a string of ASCII characters, not {key!r}.")
        _check_all(value.values())
    elif kind is list:
        _check_all(value)
    elif kind is int:
        if not -LARGEST <= value <= LARGEST:
            raise FlowauditError(f"An integer of an entry must be below 2**53, not {value}.")
    elif kind not in _PLAIN:
        raise FlowauditError(f"An entry holds no {kind.__name__}.")


def _check_all(values: t.Iterable[t.Any]) -> None:
    # Most are texts, and there are many: a call for each would be half of what it takes to write an entry.
    for value in values:
        if type(value) not in _PLAIN:
            _check(value)


_PLAIN = frozenset({str, bool, type(None)})

# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The size and root of a log at a moment."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.flowaudit.ops.plugins.module_utils.errors import FlowauditError
from ansible_collections.flowaudit.ops.plugins.module_utils.trail import checkpoint

ROOT = bytes(range(32))
ROOT_TEXT = base64.b64encode(ROOT).decode()
SIGNATURE = "\n— a AAAAAAA=\n"

# The example of https://c2sp.org/tlog-checkpoint.
EXAMPLE = (
    "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n\n"
    "— example.com/behind-the-sofa"
    " Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=\n"
)


def test_the_example_of_the_specification() -> None:
    parsed = checkpoint.parse(EXAMPLE)
    assert (parsed.origin, parsed.size) == ("example.com/behind-the-sofa", 20852163)
    assert parsed.root.hex().startswith("0ac5186a9186")
    assert EXAMPLE.startswith(parsed.text())


@given(
    st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=20),
    st.integers(0, 2**53 - 1),
    st.binary(min_size=32, max_size=32),
)
def test_what_is_written_is_read(origin: str, size: int, root: bytes) -> None:
    made = checkpoint.Checkpoint(origin, size, root)
    assert checkpoint.parse_text(made.text()) == made
    assert checkpoint.parse(made.text() + SIGNATURE) == made


def test_extensions_are_passed_over() -> None:
    text = f"a\n5\n{ROOT_TEXT}\nmore\nstill more\n"
    assert checkpoint.parse_text(text) == checkpoint.Checkpoint("a", 5, ROOT)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "a line each"),
        ("a\n5\n", "a line each"),
        (f"a\n5\n{ROOT_TEXT}", "a line each"),
        (f"\n5\n{ROOT_TEXT}\n", "a line each"),
        (f"a\n\n{ROOT_TEXT}\n", "a line each"),
        (f"a\n05\n{ROOT_TEXT}\n", "a line each"),
        (f"a\n+5\n{ROOT_TEXT}\n", "a line each"),
        (f"a\n-1\n{ROOT_TEXT}\n", "a line each"),
        (f"a\n5 \n{ROOT_TEXT}\n", "a line each"),
        (f"a\n\u0665\n{ROOT_TEXT}\n", "a line each"),
        (f"a\n{'9' * 17}\n{ROOT_TEXT}\n", "a line each"),
        ("a\n5\n!\n", "is base64"),
        ("a\n5\nä\n", "is base64"),
        ("a\n5\n\n", "the base64 of 32 bytes"),
        (f"a\n5\n{base64.b64encode(bytes(31)).decode()}\n", "the base64 of 32 bytes"),
        (f"a\n5\n{base64.b64encode(bytes(33)).decode()}\n", "the base64 of 32 bytes"),
        (f"a\n5\n{ROOT_TEXT[:-2]}9=\n", "the base64 of 32 bytes"),
    ],
)
def test_what_is_no_checkpoint_is_named(text: str, message: str) -> None:
    with pytest.raises(FlowauditError, match=message):
        checkpoint.parse_text(text)


def test_a_checkpoint_is_a_note() -> None:
    with pytest.raises(FlowauditError, match="a text, a blank line and signatures"):
        checkpoint.parse(f"a\n5\n{ROOT_TEXT}\n")


@given(st.text(max_size=40))
@settings(max_examples=300)
def test_a_checkpoint_is_read_or_refused_and_nothing_else(text: str) -> None:
    for candidate in (text, f"a\n5\n{text}\n", f"a\n{text}\n{ROOT_TEXT}\n"):
        try:
            parsed = checkpoint.parse_text(candidate)
        except FlowauditError:
            continue
        assert candidate.startswith(parsed.text())

# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A run as text: nothing that matters is missing, nothing in it does anything to a terminal."""

from __future__ import annotations

import typing as t

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.flowaudit.ops.plugins.module_utils.trail import query, story
from ansible_collections.flowaudit.ops.tests.unit.plugins import trail_evidence
from ansible_collections.flowaudit.ops.tests.unit.plugins.trail_evidence import RUN_A, RUN_B, RUN_C, RUN_D


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> trail_evidence.Made:
    return trail_evidence.make(tmp_path_factory.mktemp("original") / "trail")


@pytest.fixture
def told(made: trail_evidence.Made) -> t.Callable[..., str]:

    def tell(run: str, language: str = "en") -> str:
        with made.log(read_only=True) as log:
            return "\n".join(story.tell(query.run(log, run), query.entries_of(log, run), language))

    return tell


def test_a_run_that_went_well(told: t.Callable[..., str]) -> None:
    assert (
        told(RUN_A)
        == f"""\
Run              {RUN_A}
Who              anna, on control node cn1
When             2026-03-01 10:00:00 to 2026-03-01 10:00:11 UTC (0:01:01)
What             ansible-playbook playbooks/site.yml
Change           CHG-1
From             ops 0123456789ab, with uncommitted changes (the Playbook)
Inventory        inventories/production
Limit            web
Extra variables  release_id
Versions         ansible-core 2.19.14, flowaudit.ops 0.2.0, Python 3.11.7
End              ok

Play Web: web01, web02
  Copy (site.yml:1): ok 1
    changed  web01  1.2 s, +1 -1, path=/etc/a
  Look (site.yml:2): skipped 1
    failed, ignored  web01  1.2 s
  Event handed over (to=operations)

Host   ok  changed  failed  unreachable  skipped  rescued  ignored
web01   2        1       0            0        0        0        1
web02   1        0       0            0        1        0        0"""
    )


def test_a_run_that_failed_in_german(told: t.Callable[..., str]) -> None:
    assert (
        told(RUN_B, "de")
        == f"""\
Lauf             {RUN_B}
Wer              bert (angemeldet als anna), auf dem Steuerrechner cn1
Wann             2026-03-01 10:10:00 bis 2026-03-01 10:10:05 UTC (0:00:01)
Was              ansible ping db* (Prüflauf: es sollte nichts geändert werden)
Änderung         keine
Aus              ops 0123456789ab, mit nicht eingecheckten Änderungen (für Playbook)
Inventar         inventories/production
Extra-Variablen  release_id
Versionen        ansible-core 2.19.14, flowaudit.ops 0.2.0, Python 3.11.7
Ende             fehlgeschlagen

Play (ohne Namen): keine Rechner
  ping (site.yml:3)
    nicht erreichbar  db01  1,2 s, auf bastion, 3 Versuche
    fehlgeschlagen    db02  1,2 s, verborgen (no_log)

Rechner  ok  geändert  fehlgeschlagen  nicht erreichbar  übersprungen  gerettet  übergangen
db01      0         0               0                 1             0         0           0
db02      0         0               1                 0             0         0           0"""
    )


def test_a_run_that_was_aborted(told: t.Callable[..., str]) -> None:
    text = told(RUN_C)
    for line in (
        "End              ABORTED: killed, or the machine went down; what it had begun on hosts may have gone on;"
        " last sign of life 2026-03-01 10:20:09 UTC",
        "What             ansible-playbook /srv/ops/other.yml",
        "Playbook other.yml",
        "Play Wait: web01 (the inventory says to go on without the trail)",
        "  Included tasks/more.yml: web01",
        "  Asked for answer",
        "  No hosts (none remaining)",
        "  Wait (site.yml:4) [handler]: no result",
        "  NOT RECORDED: entries lost: 7 (2026-03-01T10:20:00.000Z)",
        "Under way when it was aborted:\n  web01: Wait (site.yml:9)",
        "No host was touched.",
    ):
        assert f"\n{line}\n" in f"{text}\n"


def test_a_run_that_has_not_ended(told: t.Callable[..., str]) -> None:
    text = told(RUN_D)
    assert "When             2026-03-01 10:40:00 UTC\n" in text
    assert "End              not ended: it runs, or it was killed and nobody has closed it yet" in text


BARE = {"run": "r", "status": "aborted", "started": "2026-03-01T10:00:00.000Z", "ended": "2026-03-01T10:00:01.000Z"}


def test_what_is_not_known_is_left_out() -> None:
    lines = story.tell({**BARE, "reason": "signal", "signal": "SIGTERM", "repositories": [{}]}, [])
    assert lines == [
        "Run     r",
        "Who     erased",
        "When    2026-03-01 10:00:00 to 2026-03-01 10:00:01 UTC",
        "What    ?",
        "Change  none",
        "From    ? unknown commit (the ?)",
        "End     ABORTED by a signal (SIGTERM)",
        "",
        "No host was touched.",
    ]


def test_a_reason_or_status_of_a_later_version_is_told_as_it_is() -> None:
    assert "End     bored" in story.tell({**BARE, "reason": "bored"}, [])
    assert "End     odd" in story.tell({**BARE, "status": "odd"}, [])


def test_items_and_modes_are_told() -> None:
    started = {"type": "task.start", "task": "t", "name": "", "src": "", "seq": 1}
    result = {"type": "task.result", "task": "t", "host": "h", "status": "ok", "changed": True, "check": True}
    entries = [started, {**result, "items": {"ok": 1, "changed": 2, "failed": 0}, "dur_ms": 50}, {"type": "anchor"}]
    lines = story.tell({**BARE, "diff": True, "tags": ["web"], "skip_tags": ["slow"], "user": "x"}, entries)
    assert "  (unnamed)" in lines
    assert "    changed  h  0.1 s, 1 ok, 2 changed, only checked" in lines
    assert "What          ? (showing differences)" in lines
    assert "Tags          web" in lines
    assert "Skipped tags  slow" in lines


def test_a_task_that_starts_again_is_told_again() -> None:
    started = {"type": "task.start", "task": "t", "name": "Do", "src": "a:1"}
    results = [{"type": "task.result", "task": "t", "host": host, "status": "ok", "dur_ms": 1} for host in "ab"]
    lines = story.tell(BARE, [started, results[0], started, results[1]])
    assert lines.count("  Do (a:1): ok 1") == 2


def test_a_result_without_its_task_is_counted() -> None:
    result = {"type": "task.result", "task": "lost", "host": "h", "status": "failed", "dur_ms": 1, "src": "a:1"}
    assert [line.split() for line in story.tell(BARE, [result])[-1:]] == [["h", "0", "0", "1", "0", "0", "0", "0"]]


@pytest.mark.parametrize("language", story.LANGUAGES)
def test_both_languages_have_the_same_words(language: str) -> None:
    assert set(story._WORDS[language]) == set(story._WORDS["en"])
    assert all(story._WORDS[language].values())


@given(text=st.text(max_size=40))
def test_no_text_of_an_entry_does_anything_to_a_terminal(text: str) -> None:
    entries = [
        {"type": "play.start", "name": text, "hosts": [text]},
        {"type": "task.start", "task": "t", "name": text, "src": text},
        {"type": "task.result", "task": "t", "host": text, "status": "failed", "dur_ms": 1, "kept": {"path": text}},
        {"type": "event", "name": text, "data": {"a": text}},
    ]
    flying = [{"host": text, "name": text, "src": text}]
    run = {**BARE, "user": text, "node": text, "limit": text, "playbook": [text], "tasks_in_flight": flying}
    for line in story.tell(run, entries):
        assert line.isprintable()

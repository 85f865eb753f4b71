# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The page about a change, in Markdown: what, why, who approved it, what ran, what came of it. German and English."""

from __future__ import annotations

import datetime
import typing as t
from collections.abc import Iterator, Mapping, Sequence

from .gate import Standing
from .model import State

Fields = Mapping[str, t.Any]

_WORDS = {
    "en": {
        "change": "Change",
        "state": "State",
        "kind": "Kind",
        "risk": "Risk",
        "inventory": "Inventory",
        "ticket": "Ticket",
        "strategy": "Deployment strategy",
        "governance": "Governance policy",
        "release": "Release",
        "digests": "Images",
        "requester": "Requested by",
        "requested": "Requested on",
        "expires": "Expires on",
        "document": "Document (SHA-256)",
        "why": "Why",
        "scope": "Scope",
        "hosts": "Hosts",
        "playbooks": "Playbooks",
        "variables": "Variables",
        "staging": "Run on staging",
        "rollback": "How it is taken back",
        "approvals": "Approvals",
        "person": "Person",
        "key": "Key",
        "nobody": "Nobody has approved it.",
        "ran": "What ran",
        "nothing": "Nothing has run.",
        "run": "Run",
        "what": "What",
        "from": "From",
        "until": "Until",
        "end": "End",
        "changed": "Changed tasks",
        "check": "check mode",
        "taken_back": "rollback",
        "said": {"revocation": "Revoked", "review": "Reviewed"},
        "by": "by",
        "on": "on",
    },
    "de": {
        "change": "Änderung",
        "state": "Stand",
        "kind": "Art",
        "risk": "Risiko",
        "inventory": "Inventar",
        "ticket": "Ticket",
        "strategy": "Verfahren der Einspielung",
        "governance": "Regelwerk",
        "release": "Release",
        "digests": "Abbilder",
        "requester": "Beantragt von",
        "requested": "Beantragt am",
        "expires": "Gilt bis",
        "document": "Dokument (SHA-256)",
        "why": "Warum",
        "scope": "Umfang",
        "hosts": "Rechner",
        "playbooks": "Playbooks",
        "variables": "Variablen",
        "staging": "Lauf auf Staging",
        "rollback": "Rücknahme",
        "approvals": "Freigaben",
        "person": "Person",
        "key": "Schlüssel",
        "nobody": "Niemand hat sie freigegeben.",
        "ran": "Was gelaufen ist",
        "nothing": "Nichts ist gelaufen.",
        "run": "Lauf",
        "what": "Was",
        "from": "Von",
        "until": "Bis",
        "end": "Ende",
        "changed": "Geänderte Aufgaben",
        "check": "Probelauf",
        "taken_back": "Rücknahme",
        "said": {"revocation": "Widerrufen", "review": "Geprüft"},
        "by": "von",
        "on": "am",
    },
}
# The terms of the model, as they are said in German.
_GERMAN = {
    "draft": "Entwurf",
    "requested": "beantragt",
    "approved": "freigegeben",
    "running": "läuft",
    "done": "ausgeführt",
    "failed": "fehlgeschlagen",
    "rolled back": "zurückgenommen",
    "reviewed": "geprüft",
    "revoked": "widerrufen",
    "expired": "abgelaufen",
    "standard": "Standard",
    "normal": "normal",
    "emergency": "Notfall",
    "low": "niedrig",
    "medium": "mittel",
    "high": "hoch",
}
LANGUAGES = tuple(_WORDS)


def write(standing: Standing, changed: Mapping[str, int], said: Mapping[str, Fields], language: str = "en") -> str:
    """The page.

    ``changed`` counts the tasks that changed something, by run. ``said`` holds what was verified of ``revocation`` and
    ``review`` (``gate.stated``).
    """
    return "\n".join(_lines(standing, changed, said, _WORDS[language], language)) + "\n"


def _lines(
    standing: Standing, changed: Mapping[str, int], said: Mapping[str, Fields], words: Fields, language: str
) -> Iterator[str]:
    change = standing.change

    def term(name: str) -> str:
        return _GERMAN[name] if language == "de" else name

    yield f"# {change.id}: {_text(change.title)}"
    yield ""
    facts = [
        ("state", term(str(standing.state))),
        ("kind", term(str(change.kind))),
        ("risk", term(str(change.risk))),
        ("inventory", change.inventory),
        ("ticket", change.ticket),
        ("strategy", change.strategy),
        ("governance", change.governance),
        ("release", change.release),
        ("digests", ", ".join(change.digests)),
        ("requester", change.requester),
        ("requested", _moment(change.requested_at)),
        ("expires", _moment(change.expires_at)),
        ("document", change.digest),
    ]
    yield from _table((words["change"], change.id), [(words[name], value) for name, value in facts if value])
    yield from _section(words["why"], _text(change.reason))
    scope = [
        ("hosts", ", ".join(change.scope.hosts)),
        ("playbooks", ", ".join(change.scope.playbooks)),
        ("variables", ", ".join(change.scope.variables)),
        ("staging", change.staging_run),
    ]
    yield from _section(words["scope"])
    yield from (f"- {words[name]}: {_text(value)}" for name, value in scope if value)
    yield from _section(words["rollback"], _text(change.rollback))
    yield from _section(words["approvals"])
    rows = [(approval.principal, approval.key) for approval in standing.approvals]
    yield from _table((words["person"], words["key"]), rows) if rows else [words["nobody"]]
    yield from _section(words["ran"])
    runs = []
    for run in standing.history.runs:
        marks = [words["check"]] * run.check + [words["taken_back"]] * run.rollback
        what = ", ".join(run.playbooks) + (f" ({', '.join(marks)})" if marks else "")
        count = str(changed.get(run.run, 0))
        until = _moment(run.ended) if run.ended else ""
        state = State.RUNNING if run.ended is None else run.state
        runs.append((run.run, what, ", ".join(run.hosts), _moment(run.began), until, term(str(state)), count))
    head = tuple(words[name] for name in ("run", "what", "hosts", "from", "until", "end", "changed"))
    yield from _table(head, runs) if runs else [words["nothing"]]
    for name, statement in said.items():
        if statement:
            by = f"{words['by']} {_text(statement['principal'])} {words['on']} {_text(statement['at'])}"
            yield from _section(words["said"][name], f"{_text(statement['reason'])} ({by})")


def _section(title: str, *text: str) -> list[str]:
    return ["", f"## {title}", "", *text]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [_row(head), _row(["---"] * len(head)), *(_row([_text(cell) for cell in row]) for row in rows)]


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _text(value: t.Any) -> str:
    """Text that stays text: no markup of somebody else's on our page."""
    flat = " ".join(str(value).split())
    for character in "\\`*_[]<>|#":
        flat = flat.replace(character, f"\\{character}")
    return flat


def _moment(moment: datetime.datetime) -> str:
    return moment.strftime("%Y-%m-%d %H:%M UTC")

# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A run as text for people, in English or German: who, when, from where, what it did to which host, how it ended."""

from __future__ import annotations

import collections
import dataclasses
import datetime
import typing as t
from collections.abc import Iterable

from . import entry

Fields = dict[str, t.Any]

LANGUAGES = ("en", "de")

# Results that are worth a line of their own, in this order; the others are counted.
_SHOWN = ("unreachable", "failed", "ignored", "changed")
_COUNTED = ("ok", "skipped")
_TOTALS = ("ok", "changed", "failures", "unreachable", "skipped", "rescued", "ignored")


@dataclasses.dataclass
class _Task:
    """A task of a play, and what came of it; ``lines`` are (status, host, what else)."""

    start: Fields
    lines: list[tuple[str, str, str]] = dataclasses.field(default_factory=list)
    counts: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)


@dataclasses.dataclass
class _Told:
    """What happened, in order: the heading of a play or playbook, a task, or something of another kind."""

    text: str = ""
    level: int = 0
    task: _Task | None = None


def tell(run: Fields, entries: Iterable[Fields], language: str = "en") -> list[str]:
    """The lines of a run's story.

    Args:
        run: the run, as ``query.run`` has it.
        entries: its entries, in order.
        language: ``en`` or ``de``.
    """
    words = _WORDS[language]
    told, totals = _read(entries, words)
    lines = _head(run, words)
    for item in told:
        if item.task is not None:
            lines += _task(item.task, words)
        else:
            lines += [f"  {item.text}"] if item.level else ["", item.text]
    if flying := run.get("tasks_in_flight"):
        lines += ["", words["in_flight"]]
        lines += [f"  {task.get('host')}: {_named(task.get('name'), task.get('src'), words)}" for task in flying]
    lines += ["", *_table(run.get("stats") or totals, words)]
    return [_clean(line) for line in lines]


def _read(entries: Iterable[Fields], words: dict[str, str]) -> tuple[list[_Told], dict[str, collections.Counter[str]]]:
    """What is told, and the number of results of each host."""
    told: list[_Told] = []
    tasks: dict[str, _Task] = {}
    totals: dict[str, collections.Counter[str]] = {}
    for value in entries:
        kind = value["type"]
        if kind == entry.TASK_START:
            # The same task starts again for the next batch of hosts, and in a loop of includes.
            task = tasks[value["task"]] = _Task(value)
            told.append(_Told(task=task))
        elif kind == entry.TASK_RESULT:
            task = tasks.setdefault(value["task"], _Task(value))
            status = _status(value)
            if status in _SHOWN:
                task.lines.append((status, value["host"], _details(value, words)))
            else:
                task.counts[status] += 1
            counts = totals.setdefault(value["host"], collections.Counter())
            counts["failures" if status == "failed" else status] += 1
            if status == "changed":
                counts["ok"] += 1
        elif text := _other(kind, value, words):
            told.append(_Told(text, 0 if kind in (entry.PLAY_START, entry.PLAYBOOK_START) else 1))
    return told, totals


def _status(result: Fields) -> str:
    if result["status"] == "failed" and result.get("ignored"):
        return "ignored"
    if result["status"] == "ok" and result.get("changed"):
        return "changed"
    return str(result["status"])


def _details(result: Fields, words: dict[str, str]) -> str:
    """What else is known of a result."""
    details = [_seconds(result.get("dur_ms", 0), words)]
    if "delegate" in result:
        details.append(f"{words['on']} {result['delegate']}")
    if "attempts" in result:
        details.append(f"{result['attempts']} {words['attempts']}")
    if items := result.get("items"):
        details.append(", ".join(f"{number} {words[how]}" for how, number in items.items() if number))
    if diff := result.get("diff"):
        details.append(f"+{diff.get('added', 0)} -{diff.get('removed', 0)}")
    if result.get("check"):
        details.append(words["would"])
    if result.get("no_log"):
        details.append(words["no_log"])
    details += [f"{name}={value}" for name, value in result.get("kept", {}).items()]
    return ", ".join(details)


def _other(kind: str, value: Fields, words: dict[str, str]) -> str:
    """A line for what is neither a task nor a result; empty for what says nothing to people."""
    name = value.get("name", "")
    if kind == entry.PLAYBOOK_START:
        return f"{words['playbook']} {value.get('playbook', '')}"
    if kind == entry.PLAY_START:
        going_on = f" ({words['goes_on']})" if value.get("on_failure") == "continue" else ""
        hosts = ", ".join(value.get("hosts", [])) or words["nobody"]
        return f"{words['play']} {name or words['unnamed']}: {hosts}{going_on}"
    if kind == entry.INCLUDE:
        return f"{words['include']} {value.get('file', '')}: {', '.join(value.get('hosts', []))}"
    if kind == entry.PROMPT:
        return f"{words['prompt']} {name}"
    if kind == entry.NO_HOSTS:
        return f"{words['no_hosts']} ({value.get('reason', '')})"
    if kind == entry.EVENT:
        data = ", ".join(f"{key}={item}" for key, item in value.get("data", {}).items())
        return f"{words['event']} {name}{f' ({data})' if data else ''}"
    if kind == entry.GAP:
        return f"{words['gap']} {value.get('lost', '?')} ({value.get('since', '')})"
    return ""


def _head(run: Fields, words: dict[str, str]) -> list[str]:
    """The run in a few lines, each with a name and a value."""
    pairs = [(words["run"], str(run["run"]))]
    pairs.append((words["who"], _who(run, words)))
    pairs.append((words["when"], _when(run, words)))
    command = str(run.get("command", "?"))
    what = " ".join([*run.get("playbook", []), str(run.get("module", "")), str(run.get("pattern", ""))]).split()
    modes = [words[mode] for mode in ("check", "diff") if run.get(mode)]
    pairs.append((words["what"], " ".join([command, *what]) + (f" ({', '.join(modes)})" if modes else "")))
    pairs.append((words["change"], run.get("change_id") or words["none"]))
    pairs += [(words["from"], _repository(item, words)) for item in run.get("repositories", [])]
    for name, value in (
        ("inventory", ", ".join(run.get("inventory", []))),
        ("limit", run.get("limit", "")),
        ("tags", "" if run.get("tags") == ["all"] else ", ".join(run.get("tags", []))),
        ("skip_tags", ", ".join(run.get("skip_tags", []))),
        ("extra_vars", ", ".join(run.get("extra_vars", []))),
    ):
        if value:
            pairs.append((words[name], str(value)))
    versions = [("ansible-core", "ansible"), ("flowaudit.ops", "collection"), ("Python", "python")]
    known = [f"{name} {run[key]}" for name, key in versions if run.get(key)]
    if known:
        pairs.append((words["versions"], ", ".join(known)))
    pairs.append((words["end"], _end(run, words)))
    width = max(len(name) for name, _value in pairs)
    return [f"{name:<{width}}  {value}" for name, value in pairs]


def _who(run: Fields, words: dict[str, str]) -> str:
    user, login = run.get("user"), run.get("login_user")
    who = words["erased"] if user is None else str(user)
    if login is not None and login != user:
        who += f" ({words['login']} {login})"
    return who + (f", {words['node']} {run['node']}" if run.get("node") else "")


def _when(run: Fields, words: dict[str, str]) -> str:
    if not run.get("ended"):
        return f"{_moment(run['started'])} UTC"
    duration = run.get("duration_ms")
    text = f"{_moment(run['started'])} {words['to']} {_moment(run['ended'])} UTC"
    return text if duration is None else f"{text} ({_duration(duration)})"


def _repository(item: Fields, words: dict[str, str]) -> str:
    commit = str(item.get("commit") or "")[:12] or words["unknown_commit"]
    dirty = f", {words['dirty']}" if item.get("dirty") else ""
    return f"{item.get('name', '?')} {commit}{dirty} ({words['of']} {words.get(item.get('role', ''), '?')})"


def _end(run: Fields, words: dict[str, str]) -> str:
    status = run["status"]
    if status != "aborted":
        return words.get(f"status_{status}", str(status))
    reason = str(run.get("reason", ""))
    signal = f" ({run['signal']})" if run.get("signal") else ""
    last = run.get("last_ts")
    return words.get(f"aborted_{reason}", reason) + signal + (f"; {words['last']} {_moment(last)} UTC" if last else "")


def _task(task: _Task, words: dict[str, str]) -> list[str]:
    """A task: a line for each result that matters, one for the others."""
    start = task.start
    heading = _named(start.get("name"), start.get("src"), words)
    handler = f" [{words['handler']}]" if start.get("handler") else ""
    others = ", ".join(f"{words[how]} {task.counts[how]}" for how in _COUNTED if task.counts[how])
    lines = [f"  {heading}{handler}{f': {others}' if others else ''}"]
    if not task.lines and not others:
        lines[0] += f": {words['no_result']}"
    width = max((len(words[status]) for status, _host, _details in task.lines), default=0)
    for status, host, details in sorted(task.lines, key=lambda line: _SHOWN.index(line[0])):
        lines.append(f"    {words[status]:<{width}}  {host}  {details}")
    return lines


def _named(name: t.Any, src: t.Any, words: dict[str, str]) -> str:
    return f"{name or words['unnamed']}{f' ({src})' if src else ''}"


def _table(totals: t.Mapping[str, t.Mapping[str, int]], words: dict[str, str]) -> list[str]:
    """The number of results of each host; those with failures first."""
    if not totals:
        return [words["untouched"]]
    bad = sorted(totals, key=lambda host: (-_bad(totals[host]), host))
    width = max(len(words["host"]), *(len(host) for host in totals))
    columns = [(key, words[f"total_{key}"]) for key in _TOTALS]
    lines = [f"{words['host']:<{width}}  {'  '.join(name for _key, name in columns)}"]
    for host in bad:
        numbers = "  ".join(f"{totals[host].get(key, 0):>{len(name)}}" for key, name in columns)
        lines.append(f"{host:<{width}}  {numbers}")
    return lines


def _bad(counts: t.Mapping[str, int]) -> int:
    return counts.get("failures", 0) + counts.get("unreachable", 0)


def _moment(text: t.Any) -> str:
    """``2026-03-01T10:00:00.123Z`` for people, to the second."""
    return str(text).partition(".")[0].replace("T", " ")


def _duration(milliseconds: int) -> str:
    return str(datetime.timedelta(seconds=round(milliseconds / 1000)))


def _seconds(milliseconds: int, words: dict[str, str]) -> str:
    return f"{milliseconds / 1000:.1f} s".replace(".", words["decimal"])


def _clean(line: str) -> str:
    """Without what could do something to a terminal."""
    return "".join(character if character.isprintable() else "\ufffd" for character in line).rstrip()


_WORDS: dict[str, dict[str, str]] = {
    "en": {
        "decimal": ".",
        "run": "Run",
        "who": "Who",
        "login": "logged in as",
        "erased": "erased",
        "node": "on control node",
        "when": "When",
        "to": "to",
        "what": "What",
        "check": "check mode: nothing was to be changed",
        "diff": "showing differences",
        "change": "Change",
        "none": "none",
        "from": "From",
        "of": "the",
        "unknown_commit": "unknown commit",
        "dirty": "with uncommitted changes",
        "playbook": "Playbook",
        "inventory": "Inventory",
        "collection": "collection",
        "limit": "Limit",
        "tags": "Tags",
        "skip_tags": "Skipped tags",
        "extra_vars": "Extra variables",
        "versions": "Versions",
        "end": "End",
        "status_ok": "ok",
        "status_failed": "failed",
        "status_unreachable": "hosts could not be reached",
        "status_open": "not ended: it runs, or it was killed and nobody has closed it yet (trail_verify does)",
        "aborted_killed": "ABORTED: killed, or the machine went down; what it had begun on hosts may have gone on",
        "aborted_signal": "ABORTED by a signal",
        "aborted_error": "ABORTED by an error of Ansible",
        "last": "last sign of life",
        "in_flight": "Under way when it was aborted:",
        "play": "Play",
        "unnamed": "(unnamed)",
        "nobody": "no hosts",
        "goes_on": "the inventory says to go on without the trail",
        "handler": "handler",
        "include": "Included",
        "prompt": "Asked for",
        "no_hosts": "No hosts",
        "event": "Event",
        "gap": "NOT RECORDED: entries lost:",
        "no_result": "no result",
        "ok": "ok",
        "changed": "changed",
        "failed": "failed",
        "ignored": "failed, ignored",
        "unreachable": "unreachable",
        "skipped": "skipped",
        "on": "on",
        "attempts": "attempts",
        "would": "only checked",
        "no_log": "hidden (no_log)",
        "host": "Host",
        "untouched": "No host was touched.",
        "total_ok": "ok",
        "total_changed": "changed",
        "total_failures": "failed",
        "total_unreachable": "unreachable",
        "total_skipped": "skipped",
        "total_rescued": "rescued",
        "total_ignored": "ignored",
    },
    "de": {
        "decimal": ",",
        "run": "Lauf",
        "who": "Wer",
        "login": "angemeldet als",
        "erased": "gelöscht",
        "node": "auf dem Steuerrechner",
        "when": "Wann",
        "to": "bis",
        "what": "Was",
        "check": "Prüflauf: es sollte nichts geändert werden",
        "diff": "mit Anzeige der Unterschiede",
        "change": "Änderung",
        "none": "keine",
        "from": "Aus",
        "of": "für",
        "unknown_commit": "unbekannter Stand",
        "dirty": "mit nicht eingecheckten Änderungen",
        "playbook": "Playbook",
        "inventory": "Inventar",
        "collection": "Collection",
        "limit": "Begrenzt auf",
        "tags": "Tags",
        "skip_tags": "Ohne Tags",
        "extra_vars": "Extra-Variablen",
        "versions": "Versionen",
        "end": "Ende",
        "status_ok": "in Ordnung",
        "status_failed": "fehlgeschlagen",
        "status_unreachable": "Rechner waren nicht erreichbar",
        "status_open": "nicht beendet: er läuft, oder er wurde getötet und noch nicht geschlossen (tut trail_verify)",
        "aborted_killed": "ABGEBROCHEN: getötet oder Rechner ausgefallen; auf Rechnern Begonnenes lief evtl. weiter",
        "aborted_signal": "ABGEBROCHEN durch ein Signal",
        "aborted_error": "ABGEBROCHEN durch einen Fehler von Ansible",
        "last": "letztes Lebenszeichen",
        "in_flight": "Beim Abbruch in Arbeit:",
        "play": "Play",
        "unnamed": "(ohne Namen)",
        "nobody": "keine Rechner",
        "goes_on": "das Inventar sagt, es soll auch ohne Protokoll weitergehen",
        "handler": "Handler",
        "include": "Eingebunden",
        "prompt": "Gefragt nach",
        "no_hosts": "Keine Rechner",
        "event": "Ereignis",
        "gap": "NICHT AUFGEZEICHNET: verlorene Einträge:",
        "no_result": "kein Ergebnis",
        "ok": "in Ordnung",
        "changed": "geändert",
        "failed": "fehlgeschlagen",
        "ignored": "fehlgeschlagen, übergangen",
        "unreachable": "nicht erreichbar",
        "skipped": "übersprungen",
        "on": "auf",
        "attempts": "Versuche",
        "would": "nur geprüft",
        "no_log": "verborgen (no_log)",
        "host": "Rechner",
        "untouched": "Kein Rechner wurde berührt.",
        "total_ok": "ok",
        "total_changed": "geändert",
        "total_failures": "fehlgeschlagen",
        "total_unreachable": "nicht erreichbar",
        "total_skipped": "übersprungen",
        "total_rescued": "gerettet",
        "total_ignored": "übergangen",
    },
}

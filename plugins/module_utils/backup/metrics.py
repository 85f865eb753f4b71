# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Figures for Prometheus, in the text format of node_exporter's textfile collector."""

from __future__ import annotations

import typing as t
from collections.abc import Mapping

from ..files import write_file
from .records import moment
from .server import Slot

_HELP = {
    "flowaudit_backup_last_success_timestamp_seconds": "When the job succeeded last (Unix time), 0 if it never has.",
    "flowaudit_backup_success": "Whether the job's last run succeeded.",
    "flowaudit_backup_duration_seconds": "How long its last successful run took.",
    "flowaudit_backup_bytes": "Bytes of what it saved.",
    "flowaudit_backup_due_seconds": "Seconds after its last success when the job is overdue.",
    "flowaudit_backup_wal_receiver_lag_bytes": "Bytes of the log that the receiver has not on its disk yet.",
    "flowaudit_backup_wal_receiver_active": "Whether the receiver is connected.",
    "flowaudit_backup_slot_safe_bytes": "Bytes until PostgreSQL gives up what the receiver still needs.",
    "flowaudit_backup_wal_gap_total": "Times the log could not be followed, so that its line began anew.",
    "flowaudit_rpo_seconds": "Age of what would survive: host, with its disk; site, with nothing but the target.",
    "flowaudit_drill_success": "Whether the last drill proved that everything comes back.",
    "flowaudit_drill_timestamp_seconds": "When it was (Unix time).",
    "flowaudit_drill_rpo_seconds": "What the last drill would have lost.",
    "flowaudit_drill_rto_seconds": "How long the last drill took to recover.",
}

#: A sample's labels and value.
Labels = tuple[tuple[str, str], ...]
#: Name → labels → value.
Samples = Mapping[str, Mapping[Labels, float]]


def write(path: str, status: Mapping[str, t.Any], slot: Slot | None) -> None:
    """Tell how backups are (:meth:`Jobs.status`) and how the log is followed; the slot is None without a server."""
    jobs = status["jobs"]
    reached = {name: moment(each["succeeded_at"]) for name, each in jobs.items()}
    drill = status["drill"]
    samples: dict[str, dict[Labels, float]] = {
        "flowaudit_backup_last_success_timestamp_seconds": {
            label(job=name): each.timestamp() if each else 0 for name, each in reached.items()
        },
        "flowaudit_backup_success": {
            label(job=name): bool(each["succeeded_at"]) and not each["error"] for name, each in jobs.items()
        },
        "flowaudit_backup_duration_seconds": {label(job=name): each["seconds"] for name, each in jobs.items()},
        "flowaudit_backup_bytes": {label(job=name): each["size"] for name, each in jobs.items()},
        "flowaudit_backup_due_seconds": {label(job=name): each["due"] for name, each in jobs.items() if each["due"]},
        "flowaudit_backup_wal_gap_total": {label(): status["gaps"]},
        "flowaudit_backup_wal_receiver_active": {label(): bool(slot and slot.active)},
        "flowaudit_rpo_seconds": {
            label(scope=scope): status[f"rpo_{scope}"]
            for scope in ("host", "site")
            if status[f"rpo_{scope}"] is not None
        },
    }
    if slot is not None:
        samples["flowaudit_backup_wal_receiver_lag_bytes"] = {label(): slot.lag}
        samples["flowaudit_backup_slot_safe_bytes"] = {label(): slot.safe} if slot.safe is not None else {}
    if drill:
        samples["flowaudit_drill_success"] = {label(): not drill["problems"]}
        samples["flowaudit_drill_timestamp_seconds"] = {label(): _seconds(drill["at"])}
        samples["flowaudit_drill_rpo_seconds"] = {label(): drill["rpo"]} if drill.get("rpo") is not None else {}
        samples["flowaudit_drill_rto_seconds"] = {label(): drill["rto"]} if drill.get("rto") is not None else {}
    write_file(path, text(samples))


def _seconds(at: str) -> float:
    found = moment(at)
    return found.timestamp() if found else 0


def text(samples: Samples) -> str:
    """The file's text."""
    lines = []
    for name, values in samples.items():
        if not values:
            continue
        kind = "counter" if name.endswith("_total") else "gauge"
        lines += [f"# HELP {name} {_HELP[name]}", f"# TYPE {name} {kind}"]
        for labels, value in values.items():
            marks = ",".join(f'{key}="{_escape(each)}"' for key, each in labels)
            lines.append(f"{name}{'{' + marks + '}' if marks else ''} {_figure(value)}")
    return "\n".join(lines) + "\n"


def label(**labels: t.Any) -> Labels:
    return tuple((name, str(value)) for name, value in labels.items())


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _figure(value: float) -> str:
    return str(int(value)) if float(value).is_integer() else f"{value:.3f}"

# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""How long playbooks may take, by what they say themselves (``vars: {runbook: {max_duration: <seconds>}}``).

Read from the files that an approval binds, not from what somebody says of them: the window has to hold the run, and its
certificate ends with it.
"""

from __future__ import annotations

import datetime
import pathlib
from collections.abc import Iterable, Mapping

from ..errors import FlowauditError
from . import yaml_file

COLLECTION = "flowaudit.ops"
ROOT = pathlib.Path(__file__).resolve().parents[3]  # of this collection
LONGEST = 31 * 86400  # seconds, as a window
_IMPORTS = ("import_playbook", "ansible.builtin.import_playbook")
_MOST = 100  # playbooks that one may import, with those that they import


def duration(names: Iterable[str], top: pathlib.Path) -> datetime.timedelta:
    """What all plays of some playbooks say together; zero when none says anything.

    ``names`` are as a scope has them, ``top`` is the inventory's repository. What is not there says nothing.

    Raises:
        FlowauditError: one cannot be read, or says what no run takes.
    """
    # One from elsewhere is refused; nobody is told what is in it.
    mine = [name for name in names if not name.startswith("/") and ".." not in name.split("/")]
    return sum((_of(place(name, top)) for name in mine), datetime.timedelta())


def place(name: str, top: pathlib.Path) -> pathlib.Path:
    """The file of a playbook that a scope names."""
    ours = name.removeprefix(f"{COLLECTION}.")
    return top / name if ours == name else ROOT / "playbooks" / f"{ours}.yml"


def _of(playbook: pathlib.Path) -> datetime.timedelta:
    total, found = 0, [playbook]
    # It grows while it is read; one that imports itself does so without end.
    for path in found:
        if len(found) > _MOST:
            raise FlowauditError(f"{playbook} imports more than {_MOST} playbooks, itself perhaps.")
        plays = yaml_file.load(path) if _is_there(path) else None
        for play in plays if isinstance(plays, list) else ():
            if isinstance(play, Mapping):
                imported = next((play[name] for name in _IMPORTS if isinstance(play.get(name), str)), None)
                found += [] if imported is None else [place(imported, path.parent)]
                total += _seconds(play, path) if imported is None else 0
    return datetime.timedelta(seconds=total)


def _is_there(path: pathlib.Path) -> bool:
    try:
        return path.is_file()
    except OSError as error:
        raise FlowauditError(f"{path} cannot be looked for: {error.strerror}.") from error


def _seconds(play: Mapping[str, object], path: pathlib.Path) -> int:
    variables = play.get("vars")
    runbook = variables.get("runbook") if isinstance(variables, Mapping) else None
    seconds = runbook.get("max_duration") if isinstance(runbook, Mapping) else None
    if not isinstance(seconds, int):
        return 0
    if not 0 <= seconds <= LONGEST:
        raise FlowauditError(f"{path} says that it takes {seconds} seconds (max_duration).")
    return seconds

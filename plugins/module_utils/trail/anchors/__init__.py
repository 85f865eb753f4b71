# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Anchors: others are told of a checkpoint, so that the log cannot be cut off or rewritten unnoticed.

Who holds the log's key can sign another log; who was told of a checkpoint before can tell. Each keeper tells the same
signed note to somebody else: a syslog server, a directory in which files stay, a timestamp authority.
"""

from __future__ import annotations

import dataclasses
import queue
import threading
import time
import typing as t
from collections.abc import Iterable, Iterator, Sequence

from ...errors import FlowauditError

# The keepers are loaded when they are needed: Ansible compiles a collection's modules at each start.
if t.TYPE_CHECKING:
    from ..verify import Anchor


@dataclasses.dataclass(frozen=True)
class Settings:
    """Who is told, and how; what is empty is not used."""

    syslog: str = ""  # unix:/dev/log, udp://host:514, tcp://host:601, tls://host:6514
    syslog_ca: str = ""  # PEM; the system's, when empty
    syslog_certificate: str = ""  # PEM, for a server that wants to know who sends
    syslog_key: str = ""  # PEM; in the file of the certificate, when empty
    worm_directory: str = ""
    timestamp_url: str = ""
    timestamp_ca: str = ""  # PEM; no default, because it says which authority counts
    timestamp_directory: str = ""
    timeout: float = 10.0  # seconds for all of them together


class Keeper(t.Protocol):
    """Somebody who is told."""

    @property
    def name(self) -> str: ...

    def keep(self, signed: str) -> str:
        """Tell of a checkpoint (a signed note); returns where it is kept.

        Raises:
            FlowauditError: it is not kept, or nobody knows whether it is.
        """


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What came of it; ``detail`` is where the checkpoint is kept, or why it is not."""

    keeper: str
    kept: bool
    detail: str


def keepers(settings: Settings) -> list[Keeper]:
    """Those that the settings name.

    Raises:
        FlowauditError: a setting makes no sense.
    """
    # A little less than all the time there is, so that each can say itself what it waited for.
    timeout = settings.timeout * 0.9
    found: list[Keeper] = []
    if settings.syslog:
        from . import syslog

        found.append(
            syslog.SyslogServer(
                settings.syslog, settings.syslog_ca, settings.syslog_certificate, settings.syslog_key, timeout
            )
        )
    if settings.worm_directory:
        from . import worm

        found.append(worm.WormDirectory(settings.worm_directory))
    if settings.timestamp_url:
        from . import timestamp

        found.append(
            timestamp.TimestampAuthority(
                settings.timestamp_url, settings.timestamp_ca, settings.timestamp_directory, timeout
            )
        )
    return found


def keep_all(keepers: Sequence[Keeper], signed: str, timeout: float = Settings.timeout) -> list[Outcome]:
    """Tell all of them at the same time, and wait for ``timeout`` seconds at most; the outcomes are in their order.

    A keeper that hangs (a file server that went away) is left behind: it does not hold up the others, nor the end of
    the process.
    """
    deadline = time.monotonic() + timeout
    answers: queue.SimpleQueue[tuple[int, Outcome]] = queue.SimpleQueue()
    for place, keeper in enumerate(keepers):
        work = threading.Thread(
            target=lambda place, keeper: answers.put((place, _keep(keeper, signed))),
            args=(place, keeper),
            name=f"flowaudit-anchor-{keeper.name}",
            daemon=True,
        )
        try:
            work.start()
        except RuntimeError:  # Python ends and starts no threads any more, or there are too many
            answers.put((place, _keep(keeper, signed)))
    outcomes: dict[int, Outcome] = {}
    while len(outcomes) < len(keepers):
        try:
            place, outcome = answers.get(timeout=max(deadline - time.monotonic(), 0))
        except queue.Empty:
            break
        outcomes[place] = outcome
    late = f"It did not answer within {timeout:g} seconds."
    return [outcomes.get(place, Outcome(keeper.name, False, late)) for place, keeper in enumerate(keepers)]


def kept(settings: Settings, origin: str = "") -> Iterator[Anchor]:
    """The checkpoints that can be read back here: those of the WORM directory, and those with a timestamp that holds.

    Several logs may share a directory; ``origin`` picks one (all, when it is empty).

    Raises:
        FlowauditError: a directory cannot be read, or a timestamp does not hold.
    """
    if settings.worm_directory:
        from . import worm

        yield from worm.kept(settings.worm_directory, origin)
    if settings.timestamp_directory:
        from . import timestamp

        yield from timestamp.kept(settings.timestamp_directory, settings.timestamp_ca, origin, settings.timeout)


def from_syslog(lines: Iterable[str], origin: str = "") -> Iterator[Anchor]:
    """The checkpoints in what a syslog server has written, in whatever format (see ``syslog.read``)."""
    from . import syslog

    return syslog.read(lines, origin)


def _keep(keeper: Keeper, signed: str) -> Outcome:
    try:
        # Of a plain string: what Ansible hands over as a setting is more than one, and no entry takes that.
        return Outcome(keeper.name, True, str(keeper.keep(signed)))
    except FlowauditError as error:
        return Outcome(keeper.name, False, str(error))
    except Exception as error:  # a fault of ours in one must not keep the others from being told
        return Outcome(keeper.name, False, f"It failed: {type(error).__name__}: {error}")

# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a run logs in with: the key and the certificate that custody gave it, and connections of its own.

Nothing of it is left behind: the key is in this process's memory, the connections' sockets lie in a directory that is
removed at the end of the run, or, after a kill, by the next one.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import pathlib
import re
import shutil
import subprocess
import tempfile
import typing as t

from ..module_utils.change import programs
from ..module_utils.custody.client import Credential
from ..module_utils.errors import FlowauditError

_TIMEOUT = 5.0  # seconds that the end of a connection may take


class _Process:
    credential: t.ClassVar[Credential | None] = None
    directory: t.ClassVar[pathlib.Path | None] = None


def use(credential: Credential | None) -> None:
    """Log in with this from now on."""
    _sweep()
    if credential is None:
        return
    _Process.credential = credential
    _Process.directory = pathlib.Path(tempfile.mkdtemp(prefix=f"{_prefix()}{os.getpid()}-"))
    atexit.register(_remove, _Process.directory, os.getpid())


def variables() -> dict[str, str]:
    """What hosts of the change get in their variables."""
    credential, directory = _Process.credential, _Process.directory
    if credential is None or directory is None:
        return {}
    return {
        "ansible_ssh_private_key_file": credential.key_path,
        # An agent's keys come first otherwise, and use the tries up that sshd allows.
        "ansible_ssh_extra_args": (
            f"-o CertificateFile={credential.certificate_path} -o IdentitiesOnly=yes -o IdentityAgent=none"
        ),
        "ansible_control_path_dir": str(directory),
    }


def _prefix() -> str:
    return f"flowaudit-{os.getuid()}-"


def _remove(directory: pathlib.Path, owner: int) -> None:
    """End the connections whose sockets lie in a directory, and remove it."""
    if os.getpid() != owner:
        return  # a worker
    for socket in directory.iterdir():
        with contextlib.suppress(OSError, subprocess.TimeoutExpired, FlowauditError):
            subprocess.run(
                [programs.path("ssh"), "-F", "none", "-o", f"ControlPath={socket}", "-O", "exit", "--", "x"],
                check=False,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=_TIMEOUT,
            )
    shutil.rmtree(directory, ignore_errors=True)


def _sweep() -> None:
    """Remove what runs that were killed have left."""
    for directory in pathlib.Path(tempfile.gettempdir()).glob(f"{_prefix()}*"):
        found = re.fullmatch(r"([0-9]+)-.*", directory.name.removeprefix(_prefix()))
        with contextlib.suppress(OSError):
            if found and directory.lstat().st_uid == os.getuid() and not pathlib.Path("/proc", found[1]).exists():
                _remove(directory, os.getpid())

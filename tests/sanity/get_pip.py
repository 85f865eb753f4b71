# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Puts pip into the empty virtual environments of ansible-test, from the copy every Python carries.

ansible-test downloads a script for that from a server of its own, which a closed network does not reach, unless one is
in its cache; tests/sanity/run puts this one there. It takes the arguments of the script it stands in for.
"""

from __future__ import annotations

import ensurepip
import os
import runpy
import sys

ensurepip.bootstrap(upgrade=True, default_pip=True)
# Set by ensurepip to read no configuration; the one of this machine says where its packages come from.
os.environ.pop("PIP_CONFIG_FILE", None)
arguments = [argument for argument in sys.argv[1:] if argument not in ("--no-setuptools", "--no-wheel")]
sys.argv = ["pip", "install", *arguments]
runpy.run_module("pip", run_name="__main__", alter_sys=True)

# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Before any test imports from the collection: Ansible's loader has to know where it is."""

from __future__ import annotations

import pathlib
import sys

import pytest
from ansible.plugins.loader import init_plugin_loader
from ansible.utils.collection_loader import AnsibleCollectionConfig

CHECKOUT = pathlib.Path(__file__).parents[2]


def _load_the_checkout() -> None:
    """Let Ansible load this checkout, not a copy that is installed somewhere; ansible-test has its own way to."""
    if AnsibleCollectionConfig.collection_finder is not None:
        return
    for entry in sys.path:
        collection = pathlib.Path(entry, "ansible_collections/flowaudit/ops")
        if collection.is_dir() and collection.samefile(CHECKOUT):
            init_plugin_loader([entry])
            return
    pytest.exit(
        f"No ansible_collections/flowaudit/ops on Python's path is {CHECKOUT}; link it (make venv).", returncode=1
    )


_load_the_checkout()

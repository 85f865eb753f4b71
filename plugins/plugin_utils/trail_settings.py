# Copyright: (c) 2026, flowaudit.ops maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The settings of the callback, for whoever else has to know where the trail is."""

from __future__ import annotations

import typing as t

from ansible import constants
from ansible.plugins.loader import callback_loader

from ..module_utils.errors import FlowauditError

CALLBACK = "flowaudit.ops.trail"


def setting(name: str) -> t.Any:
    """A setting of the callback, which need not be enabled.

    Raises:
        FlowauditError: it has no such setting, or cannot be loaded.
    """
    # Loading it makes its settings known, under a name that only the plugin itself has.
    plugin = callback_loader.get(CALLBACK, class_only=True)
    if plugin is None:
        raise FlowauditError(f"The callback {CALLBACK} cannot be loaded.")
    known = constants.config.get_configuration_definitions("callback", plugin._load_name)
    if name not in known:
        raise FlowauditError(f"The trail has no setting {name}; it has {', '.join(sorted(known))}.")
    return constants.config.get_config_value(name, plugin_type="callback", plugin_name=plugin._load_name)

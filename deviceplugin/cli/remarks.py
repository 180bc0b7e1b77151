"""What `health` says beside devices: that the files are not in force, and rules without devices."""

from collections.abc import Callable
from typing import Any

from deviceplugin.runtime.control import ControlError

Answer = dict[str, Any]


def configuration_remarks(ask: Callable[[dict[str, str]], Answer]) -> list[str]:
    """One line each; `ask` sends a request to the daemon. None from a daemon of an earlier
    version, which does not know the question."""
    try:
        refused = ask({"operation": "configuration"})["refused"]
        unused = ask({"operation": "rules"})["unused"]
    except ControlError:
        return []
    lines = [f"configuration refused, the last good one is used: {refused}"] if refused else []
    return lines + [f"{rule['rule']} {rule['reason']}" for rule in unused]

"""The words of a fault, from drivers, agents and plug-ins, as they can be shown; pure."""

from msgspec.structs import replace

from deviceplugin.faults import MAX_CODE, MAX_SOURCE
from deviceplugin.model import Fault
from deviceplugin.names import one_line

MAX_REASON = 1500  # characters: a whole error's text


def printable(fault: Fault) -> Fault:
    """The fault with each text as one bounded line."""
    shown = replace(
        fault,
        source=one_line(fault.source, MAX_SOURCE),
        code=one_line(fault.code, MAX_CODE),
        reason=one_line(fault.reason, MAX_REASON),
        action=one_line(fault.action, MAX_REASON),
    )
    return fault if shown == fault else shown

"""A plugin that is lost while it is judged, and what is kept of what was found before."""

from collections.abc import AsyncIterator
from typing import Any

from deviceplugin.pb import deviceplugin_v1beta1_pb2 as pluginapi
from deviceplugin.testing.conformance.verdict import Finding, failed, judged

SHOWN_MAX = 80


class LostError(Exception):
    """The plugin cannot be judged any further here; the text says why."""


class HangingError(LostError):
    """A call of the plugin did not end."""


class DiedError(LostError):
    """The plugin ended, or dropped its connections, at a call. is_back: it serves again."""

    def __init__(self, text: str, *, is_back: bool) -> None:
        super().__init__(text)
        self.is_back = is_back


async def questioned(
    line: int, problems: AsyncIterator[str], seen: str, *, hangs: int | None = None
) -> AsyncIterator[Finding]:
    """A finding about a line from questions that each may be the plugin's last.

    A plugin that dies of one fails the line, and goes on with the next line if it comes back.
    hangs: the line that a hanging call fails, this one where there is none.
    """
    found: list[str] = []
    try:
        async for problem in problems:
            found.append(problem)
    except HangingError as error:
        if found:
            yield judged(line, found, seen)
        yield failed(hangs or line, str(error))
        raise
    except DiedError as error:
        yield judged(line, [*found, str(error)], seen)
        if not error.is_back:
            raise
    except LostError:
        if found:
            yield judged(line, found, seen)
        raise
    else:
        yield judged(line, found, seen)


# Any: protobuf messages have no common typed base
def shown(request: Any) -> str:
    """What was asked for, short enough for a message."""
    if isinstance(request, pluginapi.PreferredAllocationRequest):
        one = request.container_requests[0]
        return f"of {one.allocation_size} of {len(one.available_deviceIDs)}"
    if isinstance(request, pluginapi.AllocateRequest):
        asked = [list(one.devices_ids) for one in request.container_requests]
        return f"of {str(asked)[:SHOWN_MAX]}"
    return ""

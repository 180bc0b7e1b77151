"""A plugin that is lost while it is judged, and what is kept of what was found before."""

from collections.abc import AsyncIterator

from deviceplugin.testing.conformance.verdict import Finding, failed, judged


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

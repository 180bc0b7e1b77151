"""How log events are written: one line each, on standard error."""

import logging
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from io import StringIO
from typing import Any, TextIO

import msgspec
import structlog

log = structlog.get_logger()
MAX_FIELD = 4096  # characters of a field: a plug-in's exception may say anything, at any length
MAX_TRACEBACK = 1 << 16


def configure_logs(level: str, form: str) -> None:
    """Write events of `level` and above as JSON lines (json) or for people (console)."""
    minimum = logging.getLevelNamesMapping()[level.upper()]
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *_rendering(form, minimum),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(minimum),
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,  # the level may change while we run
    )


def write_info(event: str, fields: Mapping[str, object]) -> None:
    """Write one of the events that come by the thousand: the same line as by the logger, at a fifth
    of its cost where lines are JSON."""
    renderer = structlog.get_config()["processors"][-1]
    line = renderer.line(event, fields) if isinstance(renderer, _Json) else None
    if line is None:
        log.info(event, **fields)
    elif renderer.minimum <= logging.INFO:
        sys.stderr.write(line)
        sys.stderr.flush()


class _Json(structlog.processors.JSONRenderer):
    """JSON lines of events of `minimum` and above."""

    def __init__(self, minimum: int) -> None:
        super().__init__()
        self.minimum = minimum

    def line(self, event: str, fields: Mapping[str, object]) -> str | None:
        """The line of an event at level info, None where the general way has to write it: what is
        not ASCII is escaped there, what is long is cut, and what is no JSON is shown as Python
        does."""
        stamp = datetime.now(UTC).isoformat().replace("+00:00", "Z")
        whole = {**fields, "event": event, "level": "info", "timestamp": stamp}
        try:
            encoded = msgspec.json.format(msgspec.json.encode(whole), indent=0)
        except (TypeError, ValueError, OverflowError):
            return None
        plain = encoded.isascii() and len(encoded) <= MAX_FIELD
        return encoded.decode() + "\n" if plain else None


def _rendering(form: str, minimum: int) -> list[structlog.typing.Processor]:
    if form == "json":
        return [structlog.processors.format_exc_info, _bounded, _Json(minimum)]
    colors = sys.stderr.isatty()
    return [_bounded, structlog.dev.ConsoleRenderer(colors=colors, exception_formatter=_traceback)]


def _traceback(out: TextIO, what: Any) -> None:  # Any: structlog's name for it is its own
    """For a terminal, which would act on codes in an exception's text."""
    text = StringIO()
    structlog.dev.plain_traceback(text, what)
    end = text.getvalue()[-MAX_TRACEBACK:]
    out.write("".join(c if c.isprintable() or c in "\n\t" else "\ufffd" for c in end))


def _bounded(_: object, __: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """The end of a traceback says what happened, the beginning of any other text."""
    for name, value in event.items():
        if name == "exception" and isinstance(value, str):
            event[name] = value[-MAX_TRACEBACK:]
        elif isinstance(value, str) and len(value) > MAX_FIELD:
            event[name] = f"{value[:MAX_FIELD]}..."
    return event

"""Answers of a store of metrics, read from files as /api/v1/query_range gives them."""

import math
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct, field

from deviceplugin.cost.series import NEEDED, QUERIES, Answers, Series
from deviceplugin.errors import ConfigError

MAX_BYTES = 512 << 20  # of one answer


class _Result(Struct):
    metric: dict[str, str]
    values: list[tuple[float, str]]


class _Data(Struct):
    result: list[_Result]
    result_type: str = field(name="resultType", default="")


class _Reply(Struct):
    status: str
    data: _Data | None = None
    error: str = ""


def read_replies(directory: Path) -> Answers:
    """The answers by the name of their query; raises ConfigError. Those that are needed must be
    there, others were not asked."""
    missing = [name for name in NEEDED if not (directory / f"{name}.json").is_file()]
    if missing:
        text = f"a directory with {', '.join(f'{name}.json' for name in NEEDED)}"
        raise ConfigError("--replies", str(directory), text, reason=f"no {missing[0]}.json")
    paths = {name: directory / f"{name}.json" for name in QUERIES}
    return {name: _read(path) for name, path in paths.items() if path.is_file()}


def _read(path: Path) -> tuple[Series, ...]:
    text = "what /api/v1/query_range answers, a matrix"
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ConfigError("--replies", str(path), f"an answer of at most {MAX_BYTES} bytes")
        reply = msgspec.json.decode(path.read_bytes(), type=_Reply)
        if reply.status != "success" or reply.data is None or reply.data.result_type != "matrix":
            raise ConfigError("--replies", str(path), text, reason=reply.error or text)
        return tuple(_series(one) for one in reply.data.result)
    except (OSError, ValueError) as error:
        raise ConfigError("--replies", str(path), text, reason=f"{text} ({error})") from error


def _series(one: Any) -> Series:
    """What is no number of an hour is left out: it was not measured."""
    values = {at: float(value) for at, value in one.values}
    known = {at: value for at, value in values.items() if math.isfinite(value)}
    return Series(labels=one.metric, values=known)

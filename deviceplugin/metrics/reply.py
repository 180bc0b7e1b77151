"""What a Prometheus-compatible store answers, as plain series; pure."""

import math
from collections.abc import Mapping
from typing import Generic, TypeVar

import msgspec
from msgspec import Struct, field

from deviceplugin.errors import DevicePluginError
from deviceplugin.files.text import one_line


class StoreError(DevicePluginError):
    """The store did not answer a query; `status` is its HTTP status, 0 where it gave none."""

    def __init__(self, text: str, status: int = 0) -> None:
        self.status = status
        super().__init__(text)

    @property
    def too_much(self) -> bool:
        """Whether the same query of a shorter time may be answered."""
        return self.status in (422, 503)


class Series(Struct, frozen=True, kw_only=True):
    """One series: its labels, and its values by the Unix seconds of their moments. What was not
    measured has no value."""

    labels: Mapping[str, str]
    values: Mapping[float, float]


Sample = tuple[Mapping[str, str], float]


class _Result(Struct):
    metric: dict[str, str]
    values: list[tuple[float, str]]


class _Instant(Struct):
    metric: dict[str, str]
    value: tuple[float, str]


_ResultT = TypeVar("_ResultT")


class _Data(Struct, Generic[_ResultT]):
    result: list[_ResultT]
    result_type: str = field(name="resultType", default="")


class _Reply(Struct, Generic[_ResultT]):
    status: str
    data: _Data[_ResultT] | None = None
    error: str = ""


class NoMatrixError(ValueError):
    """An answer without series; its text is the store's own error, empty where it gave none."""


def parse_matrix(content: bytes) -> tuple[Series, ...]:
    """The series of an answer of /api/v1/query_range; raises ValueError, and NoMatrixError for an
    answer of another kind. What is no number is left out: it was not measured."""
    reply = msgspec.json.decode(content, type=_Reply[_Result])
    if reply.status != "success" or reply.data is None or reply.data.result_type != "matrix":
        raise NoMatrixError(reply.error)
    return tuple(_series(one) for one in reply.data.result)


def parse_range(content: bytes, status: int = 200) -> tuple[Series, ...]:
    """The same of an answer that came with an HTTP status; raises StoreError."""
    try:
        return parse_matrix(content)
    except NoMatrixError as error:
        problem = str(error) or "it is no matrix"
    except ValueError:
        problem = content[:200].decode(errors="replace") or "nothing"
    raise StoreError(f"the store answers {status}: {one_line(problem)}", status)


def parse_instant(content: bytes, status: int = 200, query: str = "") -> tuple[Sample, ...]:
    """The labels and values of an answer of /api/v1/query; what is no finite number is left out.
    Raises StoreError."""
    try:
        reply = msgspec.json.decode(content, type=_Reply[_Instant])
        if reply.status == "success" and reply.data and reply.data.result_type == "vector":
            found = ((one.metric, float(one.value[1])) for one in reply.data.result)
            return tuple((labels, value) for labels, value in found if math.isfinite(value))
        problem = reply.error or "it is no vector"
    except ValueError as error:
        problem = str(error) if content else "nothing"
    raise StoreError(f"{query[:80]}: the store answers {status}: {one_line(problem)}", status)


def joined(parts: list[tuple[Series, ...]]) -> tuple[Series, ...]:
    """Answers about times that follow each other, as one."""
    if len(parts) == 1:
        return parts[0]
    found: dict[tuple[tuple[str, str], ...], tuple[Series, dict[float, float]]] = {}
    for series in (one for part in parts for one in part):
        key = tuple(sorted(series.labels.items()))
        found.setdefault(key, (series, {}))[1].update(series.values)
    return tuple(Series(labels=one.labels, values=values) for one, values in found.values())


def _series(one: _Result) -> Series:
    known = {at: float(value) for at, value in one.values}
    finite = {at: value for at, value in known.items() if math.isfinite(value)}
    return Series(labels=one.metric, values=finite)

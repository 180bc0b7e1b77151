"""What is told of each key of a document, and the base of the sections that tell it; pure."""

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Annotated, ClassVar

from msgspec import Meta, Struct

from deviceplugin.schema import Section


class Kind(StrEnum):
    """What happens with a key: it acts, is held against the node, is kept and shown, is another
    command's or component's, or cannot be done."""

    APPLIED = "applied"
    CHECKED = "checked"
    REPORTED = "reported"
    ELSEWHERE = "elsewhere"
    REFUSED = "refused"


class Telling(Struct, frozen=True):
    """The kind of a key, and the effect, the place or the reason in words."""

    kind: Kind
    text: str


def applied(text: str) -> Telling:
    return Telling(Kind.APPLIED, text)


def checked(text: str) -> Telling:
    return Telling(Kind.CHECKED, text)


def reported(text: str) -> Telling:
    return Telling(Kind.REPORTED, text)


def elsewhere(text: str) -> Telling:
    return Telling(Kind.ELSEWHERE, text)


def refused(text: str) -> Telling:
    """Refused where the value asks for something: `false`, none and empty ask for nothing."""
    return Telling(Kind.REFUSED, text)


KEPT = reported("it is kept and shown, nothing acts on it")
ON = reported("with `false` the section asks for nothing")


class Told(Section, frozen=True):
    """A section of a document: `TOLD` by key, `OTHERS` for the keys that are not in it."""

    TOLD: ClassVar[Mapping[str, Telling]] = MappingProxyType({})
    OTHERS: ClassVar[Telling] = KEPT


Words = tuple[str, ...]
Rate = Annotated[
    str, Meta(pattern=r"^[0-9.]+ ?[KMGT]?(B|b|bps)(/s)?$", description="a rate such as 900GB/s")
]
Flops = Annotated[
    str, Meta(pattern=r"^[0-9.]+ ?[GTP]FLOPS$", description="a throughput such as 100TFLOPS")
]
Time = Annotated[
    str,
    Meta(pattern=r"^[0-9.]+ ?(us|ms|s|m|h|d|y)$", description="a time such as 1ms, 30s, 24h or 7d"),
]
Percent = Annotated[
    str, Meta(pattern=r"^[0-9.]+ ?%$", description="a percentage in quotes such as 99.9%")
]
Ratio = Annotated[str, Meta(pattern=r"^[0-9.]+:[0-9.]+$", description="a ratio such as 2:1")]
_SECONDS = {"us": 1e-6, "ms": 1e-3, "s": 1, "m": 60, "h": 3600, "d": 86400, "y": 365 * 86400}


def seconds_of(time: str) -> float:
    """Of a text that is a Time; 0 where its number is none, such as `1.2.3h`."""
    number = time.rstrip("umshdy ")
    try:
        return float(number) * _SECONDS[time[len(number) :].strip()]
    except ValueError:
        return 0.0

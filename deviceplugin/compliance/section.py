"""What the configuration asks for in its section `compliance`; pure."""

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, cast

from msgspec import Struct

from deviceplugin.compliance.controls import standard_of

if TYPE_CHECKING:  # the section is of users' documents, which a start without them does not load
    from deviceplugin.documents.protection import Compliance

_UNITS_S = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "y": 365 * 86400.0}
DAY_S = 86400.0
LEAST_S = 3600.0  # a report reads the whole audit log


class Wanted(Struct, frozen=True, kw_only=True):
    """`standards` are keys of STANDARDS; empty, nothing is reported by itself. `alerts` are names
    with their severity."""

    standards: tuple[str, ...] = ()
    controls: tuple[str, ...] = ()
    interval_s: float = DAY_S
    form: str = "json"
    alerts: tuple[tuple[str, str], ...] = ()
    reports: bool = False


def wanted(sections: Mapping[str, object]) -> Wanted:
    """What is asked for; without the section, nothing."""
    section = cast("Compliance | None", sections.get("compliance"))
    if section is None:
        return Wanted()
    monitoring = section.monitoring
    on = monitoring is not None and monitoring.enabled
    reporting = monitoring.reporting if monitoring is not None else None
    standards = tuple(dict.fromkeys(standard_of(name) for name in section.standards))
    return Wanted(
        standards=standards,
        controls=section.controls,
        interval_s=_interval_s(reporting.interval) if reporting and reporting.interval else DAY_S,
        form=reporting.form if reporting is not None else "json",
        alerts=tuple((a.name, a.severity) for a in monitoring.alerts) if monitoring and on else (),
        reports=bool(on and standards),
    )


def _interval_s(text: str) -> float:
    found = re.fullmatch(r"([0-9]+) ?([smhdy])", text)
    return max(LEAST_S, int(found[1]) * _UNITS_S[found[2]]) if found else DAY_S

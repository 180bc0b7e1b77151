"""The configuration section `audit`; pure."""

import re
from collections.abc import Mapping
from typing import Annotated, Any

from msgspec import Meta

from deviceplugin.schema import Section, section_of

_UNITS_S = {"h": 3600, "d": 86400, "y": 365 * 86400}
_MOST_Y = 100
Retention = Annotated[
    str,
    Meta(pattern=r"^[1-9][0-9]{0,5} ?[hdy]$", description="a time such as 24h, 90d or 7y"),
]


class AuditSection(Section, frozen=True):
    """What is done with devices is recorded while it is on; a file is kept for `retention` after
    its last day."""

    enabled: bool = False
    retention: Retention = "1y"

    def __post_init__(self) -> None:
        """Check the time."""
        if self.retention_s > _MOST_Y * _UNITS_S["y"]:
            raise ValueError(f"retention: at most {_MOST_Y}y")

    @property
    def retention_s(self) -> float:
        """In seconds; a year has 365 days."""
        found = re.fullmatch(r"([0-9]+) ?([hdy])", self.retention)
        return float(int(found[1]) * _UNITS_S[found[2]]) if found else 0.0


SECTIONS: Mapping[str, Any] = {"audit": AuditSection}


def audit_section(sections: Mapping[str, object]) -> AuditSection:
    """The section, with its defaults where the configuration has none."""
    return section_of(sections, "audit", AuditSection)

"""The configuration section `dra`; pure."""

import re
from collections.abc import Mapping
from typing import Any

from deviceplugin.dra.gates import Gate
from deviceplugin.schema import Section, section_of

_DRIVER = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
MAX_DRIVER = 63


class DraSection(Section, frozen=True):
    """Which devices pods get by ResourceClaims.

    `driver` is one driver for all vendors instead of one for each; `vendors` are those whose
    devices are published, none for every vendor. With `handover` the device plugin offers such
    devices too, and a free one goes to whoever asks first. `gates` are feature gates of the
    cluster that are on although its release has them off.
    """

    enabled: bool = False
    driver: str | None = None
    vendors: tuple[str, ...] = ()
    handover: bool = False
    gates: tuple[Gate, ...] = ()

    def __post_init__(self) -> None:
        """Check the driver as the API server does."""
        name = self.driver
        if name is not None and (len(name) > MAX_DRIVER or not _DRIVER.fullmatch(name)):
            text = f"a lower-case DNS subdomain of at most {MAX_DRIVER} characters"
            raise ValueError(f"driver: {text}, such as gpu.example.com")


SECTIONS: Mapping[str, Any] = {"dra": DraSection}


def dra_section(sections: Mapping[str, object]) -> DraSection:
    """The section, with its defaults where the configuration has none."""
    return section_of(sections, "dra", DraSection)

"""The configuration section `page`; pure."""

from collections.abc import Mapping
from typing import Any

from deviceplugin.schema import Section


class PageSection(Section, frozen=True):
    """`enabled`: whether `/` and `/status` are there. Whether they name pods is `metrics.pods`."""

    enabled: bool = True


SECTIONS: Mapping[str, Any] = {"page": PageSection}

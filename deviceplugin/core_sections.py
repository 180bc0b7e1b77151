"""Configuration sections that belong to no vendor: name to schema, decoded beside the vendors'.

A schema is a Struct whose fields have defaults, or a type that takes None. Vendors find these
sections, decoded, among those that they are created with.
"""

from collections.abc import Mapping
from typing import Any

from deviceplugin import scheduling
from deviceplugin.core.sharing_sections import Rule, SharingSection
from deviceplugin.health_section import HealthSection
from deviceplugin.sections import Isolation

CORE_SECTIONS: Mapping[str, Any] = {
    "health": HealthSection,
    "isolation": Isolation | None,
    "rules": tuple[Rule, ...] | None,
    "sharing": SharingSection,
    **scheduling.SECTIONS,
}

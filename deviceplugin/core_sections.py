"""The configuration sections that belong to no vendor; nothing else."""

from collections.abc import Mapping
from typing import Any

from deviceplugin.core.sharing_sections import Rule, SharingSection
from deviceplugin.sections import Isolation

# Section to schema: a Struct whose fields have defaults, or a type that takes None.
CORE_SECTIONS: Mapping[str, Any] = {
    "isolation": Isolation | None,
    "rules": tuple[Rule, ...] | None,
    "sharing": SharingSection,
}

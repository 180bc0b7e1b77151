"""What the configuration asks for in `security.bypass`; pure."""

from collections.abc import Mapping
from typing import Protocol


class Wanted(Protocol):
    """The section, as its part sees it: the schema is loaded where a file has it."""

    @property
    def enabled(self) -> bool:
        """Whether anything is done."""

    @property
    def interval_s(self) -> float:
        """From one look to the next."""

    @property
    def allowed(self) -> tuple[str, ...]:
        """Namespaces, or NAMESPACE/POD, with `*` for any part."""


def wanted(sections: Mapping[str, object]) -> Wanted | None:
    """The section where it asks for something."""
    found: Wanted | None = getattr(sections.get("security"), "bypass", None)
    return found if found is not None and found.enabled else None

"""The classes of the section `workloads` in what `discover` shows; without the section nothing is
loaded for them."""

from collections.abc import Mapping
from typing import Any


def workload_classes(section: object, report: Mapping[str, Any]) -> dict[str, Any]:
    """`workloads` of the report, where the configuration has that section (else it is None)."""
    if section is None:
        return {}
    from deviceplugin.documents.classes import classes_of  # noqa: PLC0415  # where a file has them
    from deviceplugin.documents.needs import Workloads  # noqa: PLC0415

    if not isinstance(section, Workloads):
        raise TypeError(f"section 'workloads': {type(section).__name__}")
    return {"workloads": classes_of(section, report)}

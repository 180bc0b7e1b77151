"""Labels about what documents ask: classes of workloads, and drivers for a runtime's version; pure.

Loaded where a configuration asks for them.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from deviceplugin.documents.classes import classes_of
from deviceplugin.documents.drivers import VENDORS, asked_versions, driver_need
from deviceplugin.documents.needs import Workloads
from deviceplugin.labels.own import NodeView
from deviceplugin.labels.values import label_value
from deviceplugin.resources.plan import Plan
from deviceplugin.resources.report import report
from deviceplugin.vendor.labels import LABEL_PREFIX


def asked_labels(sections: Mapping[str, Any], view: NodeView) -> dict[str, str]:
    """`workload.training: true`, `workload.training.nvidia.com_gpu: 8`, `cuda-12.5: full`, below
    `deviceplugin/`. What nothing tells has no label, nor has a node without a GPU."""
    if not view.whole:
        return {}
    found = {**dict(_drivers(sections, view)), **dict(_classes(sections, view))}
    return {f"{LABEL_PREFIX}/{name}": value for name, value in found.items()}


def _drivers(sections: Mapping[str, Any], view: NodeView) -> Iterator[tuple[str, str]]:
    for runtime, version in asked_versions(sections):
        name, text = VENDORS[runtime], label_value(version)
        status = view.inventory.vendors.get(name)
        if status is None or text is None or name not in {d.vendor for d in view.whole}:
            continue
        if level := driver_need(runtime, version, status.driver_version).level:
            yield f"{runtime}-{text}", level


def _classes(sections: Mapping[str, Any], view: NodeView) -> Iterator[tuple[str, str]]:
    workloads = sections.get("workloads")
    if not isinstance(workloads, Workloads):
        return
    shown = report("", view.inventory, Plan(resources=view.resources))
    for name, one in classes_of(workloads, shown).items():
        if one["met"] is not None:
            yield f"workload.{name}", str(one["met"]).lower()
        for resource, count in one["resources"].items():
            yield f"workload.{name}.{resource.replace('/', '_')}", str(count)

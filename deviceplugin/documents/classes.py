"""Which resources of a node satisfy the classes of the section `workloads`; pure."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from deviceplugin.documents import abilities
from deviceplugin.documents.needs import Workload, Workloads

Report = Mapping[str, Any]


def classes_of(workloads: Workloads, report: Report) -> dict[str, Any]:
    """Each class that is given: `met` (None: nothing tells) and the number of devices that satisfy
    it, by resource. `report` is that of `discover`."""
    devices = {device["id"]: device for device in report["devices"]}
    return {
        name: _class(workload, report["resources"], devices)
        for name in workloads.__struct_fields__
        if (workload := getattr(workloads, name)) is not None
    }


def _class(
    workload: Workload, resources: Mapping[str, Sequence[Report]], devices: Mapping[str, Report]
) -> dict[str, Any]:
    verdicts: list[bool | None] = []
    counts: dict[str, int] = {}
    for name, entries in resources.items():
        ids = sorted({entry["device"] for entry in entries} & devices.keys())
        judged = [satisfies(workload, devices[number]) for number in ids]
        verdicts += judged
        if good := judged.count(True):
            counts[name] = good
    met = True if counts else None if None in verdicts else False
    return {"met": met, "resources": counts}


def satisfies(workload: Workload, device: Report) -> bool | None:
    """Whether a device has all that a class asks for; None where a part of it is not told."""
    told = list(_judged(workload, device))
    return False if False in told else None if None in told else True


def _judged(workload: Workload, device: Report) -> Iterator[bool | None]:
    if workload.gpu_memory is not None:
        yield abilities.has_memory(device, workload.gpu_memory)
    if workload.compute_capability is not None:
        yield abilities.has_capability(device, workload.compute_capability)
    if workload.tensor_cores:
        yield abilities.has_matrix_units(device)
    if workload.precision is not None:
        yield abilities.computes(device, workload.precision)

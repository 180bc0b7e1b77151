"""Tables for people's terminals; pure text."""

from collections.abc import Iterator, Sequence

from deviceplugin.resources.report import Report
from deviceplugin.runtime.tables import table


def report_text(report: Report) -> str:
    """The report of `discover`: vendors, devices, resources, and what is wrong."""
    return "\n\n".join(_sections(report)) + "\n"


def _sections(report: Report) -> Iterator[str]:
    yield f"Node {report['node']}"
    yield table(
        ("VENDOR", "DRIVER", "LIBRARY", "STATE"),
        [
            (v["name"], v["driver_version"] or "-", v["library_version"] or "-", _state(v))
            for v in report["vendors"]
        ],
    )
    if report["devices"]:
        yield table(
            ("DEVICE", "PRODUCT", "PROFILE", "PCI", "NUMA", "MEMORY", "HEALTH", "RESOURCE"),
            [_device_row(device) for device in _family_order(report["devices"])],
        )
    yield table(
        ("RESOURCE", "CAPACITY", "ALLOCATABLE", "ISOLATION"),
        [
            _resource_row(name, ids, report["sharing"][name]["isolation"])
            for name, ids in report["resources"].items()
        ],
    )
    yield from _troubles(report)


def _resource_row(name: str, ids: Sequence[Report], isolation: str) -> tuple[str, ...]:
    healthy = sum(entry["health"] == "Healthy" for entry in ids)
    return (name, str(len(ids)), str(healthy), isolation)


def _family_order(devices: Sequence[Report]) -> Sequence[Report]:
    """Each whole followed by its parts."""
    return sorted(devices, key=lambda d: (d["parent"] or d["id"], bool(d["parent"]), d["id"]))


def _state(vendor: Report) -> str:
    return str(vendor["error"] or "ok")


def _device_row(device: Report) -> tuple[str, ...]:
    memory, numa = device["memory_bytes"], device["numa_node"]
    return (
        ("  " if device["parent"] else "") + device["id"],
        device["product"] or "-",
        device["profile"] or "-",
        device["pci_address"] or "-",
        "-" if numa is None else str(numa),
        "-" if memory is None else f"{memory / (1 << 30):.1f} GiB",
        device["health"],
        device["resource"] or "-",
    )


def _troubles(report: Report) -> Iterator[str]:
    faults = {(f["device"], f["code"]): f for device in report["devices"] for f in device["faults"]}
    for fault in faults.values():
        yield (f"{fault['class']}: {fault['device']}: {fault['reason']}\n  do: {fault['action']}")
    for problem in report["problems"]:
        yield f"refused: {problem['resource']}: {problem['reason']}\n  do: {problem['action']}"
    if report.get("unused_rules"):
        yield "\n".join(f"{rule['rule']} {rule['reason']}" for rule in report["unused_rules"])

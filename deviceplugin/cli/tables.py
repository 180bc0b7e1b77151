"""Tables for people's terminals; pure text."""

from collections.abc import Iterator, Sequence

from deviceplugin.resources.report import Report
from deviceplugin.runtime.tables import table


def report_text(report: Report) -> str:
    """The report of `discover`: vendors, devices, resources, and what is wrong."""
    return "\n\n".join(_sections(report)) + "\n"


def _sections(report: Report) -> Iterator[str]:
    yield f"Node {report['node']}"
    yield from report.get("notices", ())
    yield table(
        ("VENDOR", "DRIVER", "LIBRARY", "STATE"),
        [
            (v["name"], v["driver_version"] or "-", v["library_version"] or "-", _state(v))
            for v in report["vendors"]
        ],
    )
    yield from vendor_notes(report)
    if report["devices"]:
        yield table(
            ("DEVICE", "PRODUCT", "PROFILE", "PCI", "NUMA", "MEMORY", "HEALTH", "RESOURCE"),
            [_device_row(device) for device in _family_order(report["devices"])],
        )
    if not report["devices"]:
        yield "No GPU was found."
    if report["resources"]:
        yield _resource_table(report)
    yield from _workloads(report)
    yield from _unavailable(report)
    yield from _not_held(report)
    yield from _drivers(report)
    yield from _troubles(report)


def vendor_notes(report: Report) -> Iterator[str]:
    """What vendors say of how they serve; a daemon of another version may say nothing."""
    for vendor in report["vendors"]:
        yield from (f"{vendor['name']}: {note}" for note in vendor.get("notes", ()))


def _resource_table(report: Report) -> str:
    return table(
        ("RESOURCE", "CAPACITY", "ALLOCATABLE", "ISOLATION"),
        [
            _resource_row(name, ids, report["sharing"][name]["isolation"])
            for name, ids in report["resources"].items()
        ],
    )


def _workloads(report: Report) -> Iterator[str]:
    """Which resources satisfy each class of workloads, where the configuration has classes."""
    words = {True: "yes", False: "no", None: "unknown"}
    rows = [
        (name, words[one["met"]], ", ".join(f"{r} ({n})" for r, n in one["resources"].items()))
        for name, one in report.get("workloads", {}).items()
    ]
    if rows:
        yield table(("WORKLOAD", "SATISFIED", "BY"), [(*row[:2], row[2] or "-") for row in rows])


def _unavailable(report: Report) -> Iterator[str]:
    """Why capacity is more than is allocatable: one line a resource."""
    lines = [
        f"{name}: {entry['ids']} not allocatable: {entry['reason']}"
        for name, entries in report.get("unavailable", {}).items()
        for entry in entries
    ]
    if lines:
        yield "\n".join(lines)


def _not_held(report: Report) -> Iterator[str]:
    """Of which memory containers may use more than they were granted, and why."""
    for name, sharing in report["sharing"].items():
        if reason := sharing.get("memory_not_held"):
            yield f"{name}: containers are not held to their memory: {reason}"
        if "compute_percent" in sharing:
            yield f"{name}: {compute_text(sharing)}"


def compute_text(document: Report) -> str:
    """The compute that comes with slices, of a report or an explanation."""
    reason = document.get("compute_not_held")
    percent, level = document["compute_percent"], document["compute"]
    return f"compute of each slice {percent}%, level {level}" + (f": {reason}" if reason else "")


def _drivers(report: Report) -> Iterator[str]:
    """What claims can have; nothing where they are not served."""
    rows = [
        (d["driver"], *(str(d[key]) for key in ("slices", "devices", "tainted")), _claims(d))
        for d in report.get("dra", ())
    ]
    if rows:
        yield table(("DRA DRIVER", "SLICES", "DEVICES", "TAINTED", "CLAIMS"), rows)


def _claims(driver: Report) -> str:
    held = (f"{name}: {', '.join(claims)}" for name, claims in driver["claims"].items())
    return "; ".join(held) or "-"


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
    for faults in blocks_of(report["devices"]):
        fault, ids = faults[0], list(dict.fromkeys(fault["device"] for fault in faults))
        named = ids[0] if len(ids) == 1 else f"{len(ids)} devices ({', '.join(ids)})"
        name = f"{fault['source']}/{fault['code']}"
        yield f"{fault['class']}: {named}: {fault['reason']} ({name})\n  do: {fault['action']}"
    yield from problem_lines(report)
    if report.get("unused_rules"):
        yield "\n".join(f"{rule['rule']} {rule['reason']}" for rule in report["unused_rules"])


def problem_lines(report: Report) -> Iterator[str]:
    """What the rules name and cannot be offered; a daemon of another version may not say."""
    for problem in report.get("problems", ()):
        yield f"refused: {problem['resource']}: {problem['reason']}\n  do: {problem['action']}"


def blocks_of(devices: Sequence[Report]) -> Sequence[Sequence[Report]]:
    """The faults of these devices, one block for each cause: those that differ in their device
    only are together, and what a part has because of its whole is not there again."""
    parents = {device["id"]: device["parent"] for device in devices}
    found: dict[tuple[str, ...], list[Report]] = {}
    for fault in (fault for device in devices for fault in device["faults"]):
        found.setdefault(_cause(fault), []).append(fault)
    blocks = []
    for faults in found.values():
        hit = {fault["device"] for fault in faults}
        one_each = {fault["device"]: fault for fault in faults}
        blocks.append([f for d, f in one_each.items() if parents.get(d) not in hit])
    return blocks


def _cause(fault: Report) -> tuple[str, ...]:
    action = fault["action"].replace(fault["device"], "")
    return (fault["class"], fault["source"], fault["code"], fault["reason"], action)

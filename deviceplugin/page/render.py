"""The status document as HTML; pure. Parts that can change have an id and `data-part`."""

from collections.abc import Iterable, Sequence

from deviceplugin.page.markup import meter, sparkline, table, tag, text
from deviceplugin.page.model import AlertStatus, DeviceStatus, FaultStatus, LinkStatus, Status
from deviceplugin.page.words import ABSENT, ago, celsius, count, listed, percent, short, size, watts

REFRESH_S = 10
_HEAD = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; connect-src 'self'; \
script-src 'self'; style-src 'self' 'unsafe-inline'; img-src data:; base-uri 'none'; \
form-action 'none'">
<title>{title}</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="page.css">
<noscript><meta http-equiv="refresh" content="{refresh}"></noscript>
<script src="page.js" defer></script>
</head>
<body>
<a class="skip" href="#devices">Skip to the GPUs</a>
<div id="page">
"""
_END = '\n</div>\n<p id="live" role="status"></p>\n</body>\n</html>\n'


def whole_page(status: Status) -> str:
    """The page as it is without JavaScript, which only renews what `body` gives."""
    title = text(f"GPUs of {status.node}")
    return _HEAD.format(title=title, refresh=REFRESH_S) + body(status) + _END


def body(status: Status) -> str:
    """Everything that can change."""
    return "\n".join(
        (
            _header(status),
            "<main>",
            _part("alerts", "Alerts", _alerts(status)) if status.alerts else "",
            _part("faults", "What is wrong, and what to do", _faults(status)),
            _part("devices", "GPUs", _devices(status)),
            _part("links", "Links between GPUs", _matrices(status)) if status.links else "",
            _part("resources", "Resources", _resources(status)),
            "</main>",
            _footer(status),
        )
    )


def _part(name: str, title: str, content: str) -> str:
    head = tag("h2", text(title), {"id": f"{name}-title"})
    attributes = {"id": name, "data-part": "", "aria-labelledby": f"{name}-title"}
    return tag("section", head + content, attributes)


def _header(status: Status) -> str:
    title = tag("h1", text(status.node))
    return tag("header", title + tag("p", text(summary(status)), {"id": "summary"}), _CHANGES)


_CHANGES = {"id": "head", "data-part": ""}


def summary(status: Status) -> str:
    """One line: what is there, what of it is not well, and what is in use."""
    ill = sum(device.condition != "healthy" for device in status.devices)
    firing = sum(alert.state == "firing" for alert in status.alerts)
    held = sum(
        device.held > 0 or any(p.held for p in device.partitions) for device in status.devices
    )
    words = [count(len(status.devices), "GPU"), f"{held} in use"]
    if status.devices:
        words.append(f"{ill} not healthy" if ill else "all healthy")
    if firing:
        words.append(f"{count(firing, 'alert')} firing")
    return " · ".join(words)


def _alerts(status: Status) -> str:
    return tag(
        "ul", "".join(_alert(alert, status.at) for alert in status.alerts), {"class": "list"}
    )


def _alert(alert: AlertStatus, at: float) -> str:
    line = f"{alert.device}: {alert.condition}, now {alert.value}; for {ago(at - alert.since)}"
    badge = _badge(f"{alert.severity}, {alert.state}", alert.severity)
    return tag("li", badge + tag("strong", text(alert.name)) + " " + text(line))


def _badge(words: str, kind: str) -> str:
    return tag("span", text(words), {"class": f"badge {text(kind)}"})


def _faults(status: Status) -> str:
    waiting = [f"{v.name}: {v.error}" for v in status.vendors if v.error and _has(status, v.name)]
    lines = [tag("li", text(line)) for line in (*status.notices, *waiting)]
    lines += [_fault(fault, status.at) for fault in status.faults]
    if not lines:
        return tag("p", "Nothing: every device can be used.")
    return tag("ul", "".join(lines), {"class": "list"})


def _has(status: Status, vendor: str) -> bool:
    """A vendor whose hardware is not here is no trouble."""
    return any(device.vendor == vendor for device in status.devices)


def _fault(fault: FaultStatus, at: float) -> str:
    since = "" if fault.since is None else f" (for {ago(at - fault.since)})"
    what = f" {text(fault.reason)}{text(since)}"
    todo = tag("p", tag("strong", "Do: ") + text(fault.action)) if fault.action else ""
    where = tag("code", text(fault.device))
    return tag("li", _badge(fault.kind, f"class-{fault.kind}") + where + what + todo)


def _devices(status: Status) -> str:
    if not status.devices:
        return tag("p", "No GPU was found on this node.")
    return tag("div", "".join(_card(device) for device in status.devices), {"class": "cards"})


def _card(device: DeviceStatus) -> str:
    name = f"{device.product or device.vendor} {ABSENT if device.index is None else device.index}"
    anchor = f"device-{device.id}"
    head = tag("h3", text(name), {"id": f"{anchor}-name"})
    head += _badge(device.condition, device.condition)
    where = [short(device.id, 20), device.pci_address, _numa(device.numa_node)]
    facts = tag("p", text(" · ".join(filter(None, where))), {"class": "facts", "title": device.id})
    content = head + facts + _meters(device) + _layout(device) + _holders(device) + _trends(device)
    attributes = {"class": "card", "id": anchor, "data-part": ""}
    return tag("article", content, {**attributes, "aria-labelledby": f"{anchor}-name"})


def _numa(node: int | None) -> str | None:
    return None if node is None else f"NUMA node {node}"


def _meters(device: DeviceStatus) -> str:
    found = device.measured
    if found is None:
        return tag("p", f"Memory {text(size(device.memory_bytes))}; nothing is measured.")
    if not found.up:
        return tag("p", "It does not answer.", {"class": "lost"})
    used, limit = found.memory_used_bytes, found.power_limit_watts
    memory = f"{size(used)} of {size(device.memory_bytes)}"
    power = watts(found.power_watts, limit)
    return "".join(
        (
            meter("Utilisation", found.utilization_ratio, percent(found.utilization_ratio)),
            meter("Memory", _part_of(used, device.memory_bytes), memory),
            meter("Power", _part_of(found.power_watts, limit), power),
            tag("p", f"Temperature {text(celsius(found.temperature_celsius))}"),
        )
    )


def _part_of(value: float | None, whole: float | None) -> float | None:
    return None if value is None or not whole else value / whole


def _layout(device: DeviceStatus) -> str:
    """The partitions beside each other, each as wide as its part of the memory."""
    if not device.partitions:
        return ""
    cells = [_cell(part) for part in device.partitions]
    known = [part.memory_bytes or 0 for part in device.partitions]
    rest = (device.memory_bytes or 0) - sum(known)
    if all(known) and rest > sum(known) // 100:
        label = tag("span", text(f"not divided · {size(rest)}"))
        cells.append(tag("li", label, _grow(rest, "free")))
    drawn = tag("ol", "".join(cells), {"class": "layout", "aria-label": "Partitions"})
    return drawn + _partitions(device)


def _partitions(device: DeviceStatus) -> str:
    """The same in words: a drawing has no room for long names."""
    rows = [
        (
            text(part.profile or "partition"),
            text(size(part.memory_bytes)),
            text(percent(part.measured.utilization_ratio if part.measured else None)),
            text(part.condition),
            text(_who(part)),
        )
        for part in device.partitions
    ]
    head = ("Profile", "Memory", "Utilisation", "Condition", "Held by")
    content = tag("summary", f"{count(len(rows), 'partition')} in words")
    return tag("details", content + table("Partitions", head, rows), {"id": f"parts-{device.id}"})


def _cell(part: DeviceStatus) -> str:
    used = part.measured and part.measured.memory_used_bytes
    share = _part_of(used or None, part.memory_bytes)
    fill = tag("i", "", {"style": f"width:{100 * min(share, 1):.1f}%"}) if share else ""
    words = [part.profile or "partition", _who(part)]
    words += [] if part.condition == "healthy" else [part.condition]
    kind = part.condition if part.condition != "healthy" else "held" if part.held else "idle"
    label = tag("span", text(" · ".join(words)))
    return tag("li", fill + label, {**_grow(part.memory_bytes or 1, kind), "title": part.id})


def _grow(weight: int, kind: str) -> dict[str, str]:
    return {"class": kind, "style": f"flex-grow:{max(weight >> 20, 1)}"}


def _who(device: DeviceStatus) -> str:
    if not device.held:
        return "free"
    if device.held_by is None:
        return f"held by {count(device.held, 'container')}"
    return listed(sorted({f"{h.namespace}/{h.pod}" for h in device.held_by}))


def _holders(device: DeviceStatus) -> str:
    if device.partitions and not device.held:
        return ""
    names = f" as {listed(device.resources)}" if device.resources else ", not offered"
    if not device.held_by:
        return tag("p", text(_who(device).capitalize() + names))
    rows = [
        (text(f"{h.namespace}/{h.pod}"), text(h.container), text(h.resource))
        for h in device.held_by
    ]
    return table("Held by", ("Pod", "Container", "Resource"), rows)


def _trends(device: DeviceStatus) -> str:
    curves = []
    for trend in device.history:
        span = ago(len(trend.values) * trend.step_s)
        drawn = sparkline(f"{trend.metric} of the last {span}", trend.values)
        if drawn:
            curves.append(tag("figure", drawn + tag("figcaption", text(f"{trend.metric}, {span}"))))
    return tag("div", "".join(curves), {"class": "trends"}) if curves else ""


def _matrices(status: Status) -> str:
    return "".join(
        _matrix([d for d in status.devices if d.vendor == vendor], status.links, vendor)
        for vendor in dict.fromkeys(device.vendor for device in status.devices)
        if any(device.vendor == vendor for device in _linked(status))
    )


def _linked(status: Status) -> Iterable[DeviceStatus]:
    ends = {end for link in status.links for end in (link.one, link.other)}
    return (device for device in status.devices if device.id in ends)


def _matrix(devices: Sequence[DeviceStatus], links: Sequence[LinkStatus], vendor: str) -> str:
    between = {(link.one, link.other): link for link in links}
    between |= {(other, one): link for (one, other), link in between.items()}
    names = [short(d.id) if d.index is None else f"GPU {d.index}" for d in devices]
    rows = []
    for name, one in zip(names, devices, strict=True):
        cells = [_link(between.get((one.id, other.id))) for other in devices]
        rows.append((text(name), *cells))
    return table(vendor, ("from, to", *names), rows)


def _link(link: LinkStatus | None) -> str:
    if link is None:
        return ABSENT
    return tag("strong", text(link.relation)) if link.direct else text(link.relation)


def _resources(status: Status) -> str:
    if not status.resources:
        return tag("p", "Nothing is offered to the kubelet.")
    rows = [
        (tag("code", text(r.name)), str(r.capacity), str(r.allocatable), str(r.held))
        for r in status.resources
    ]
    head = ("Resource", "Capacity", "Allocatable", "Held")
    return table("What the kubelet can give to pods", head, rows)


def _footer(status: Status) -> str:
    hidden = "" if status.pods_shown else " Pods are not named here: metrics.pods is not set."
    paths = ("status", "status/schema", "metrics", "readyz")
    links = " · ".join(tag("a", text(f"/{path}"), {"href": path}) for path in paths)
    drivers = [f"{v.name} {v.driver_version}" for v in status.vendors if v.driver_version]
    words = f"Drivers: {listed(drivers) or ABSENT}.{hidden} "
    return tag("footer", tag("p", text(words) + links), {"id": "foot", "data-part": ""})

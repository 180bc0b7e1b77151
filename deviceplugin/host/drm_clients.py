"""Who uses GPUs through DRM: /proc/PID/fdinfo of files that are DRM nodes.

Documentation/gpu/drm-usage-stats.rst. A client is counted once, however many descriptors it has.
"""

import re
from collections.abc import Iterator, Mapping

from msgspec import Struct, field

from deviceplugin.host.host import Host
from deviceplugin.host.open_files import read_open_files
from deviceplugin.host.optional import optional_text

DRI = "/dev/dri/"
MAX_CLIENTS = 2048
_VALUE = re.compile(r"([0-9]{1,20})(?: (KiB|MiB|ns))?")
_FACTORS = {"KiB": 1 << 10, "MiB": 1 << 20}


class Client(Struct, frozen=True, kw_only=True):
    """One client of one GPU: `engines` has busy nanoseconds, `cycles` busy cycles and all cycles
    of each engine; `memory` bytes by the driver's key, without `drm-`."""

    pid: int
    driver: str
    pci_address: str
    number: str
    node: str
    engines: Mapping[str, int] = field(default_factory=dict)
    cycles: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    memory: Mapping[str, int] = field(default_factory=dict)


def read_clients(host: Host) -> tuple[Client, ...]:
    """All clients whose processes we may look at."""
    found: dict[tuple[str, str], Client] = {}
    for pid, descriptor, node in _descriptors(host):
        text = optional_text(host, f"/proc/{pid}/fdinfo/{descriptor}")
        client = parse_client(text or "", pid, node)
        if client is not None and len(found) < MAX_CLIENTS:
            found.setdefault((client.pci_address, client.number), client)
    return tuple(found.values())


def _descriptors(host: Host) -> Iterator[tuple[int, str, str]]:
    """Process, descriptor and node of each open DRM node."""
    for pid, files in read_open_files(host):
        for descriptor, target in (files or {}).items():
            if target.startswith(DRI):
                yield pid, descriptor, target


def parse_client(text: str, pid: int, node: str) -> Client | None:
    """A client's fdinfo, None for what is no DRM client of a PCI device."""
    pairs = {key: v.strip() for key, _, v in (line.partition(":") for line in text.splitlines())}
    known = (pairs.get("drm-driver"), pairs.get("drm-pdev"), pairs.get("drm-client-id"))
    driver, address, number = known
    if not driver or not address or not number:
        return None
    values = {k.removeprefix("drm-"): n for k, v in pairs.items() if (n := _value(v)) is not None}
    return Client(
        pid=pid,
        driver=driver,
        pci_address=address,
        number=number,
        node=node,
        engines=_below(values, "engine-"),
        cycles=_cycles(values),
        memory={k: v for k, v in values.items() if k.startswith(("memory-", "resident-"))},
    )


def _value(text: str) -> int | None:
    match = _VALUE.fullmatch(text)
    return int(match[1]) * _FACTORS.get(match[2] or "", 1) if match else None


def _below(values: Mapping[str, int], prefix: str) -> Mapping[str, int]:
    found = {key.removeprefix(prefix): v for key, v in values.items() if key.startswith(prefix)}
    return {key: v for key, v in found.items() if not key.startswith("capacity-")}


def _cycles(values: Mapping[str, int]) -> Mapping[str, tuple[int, int]]:
    busy, total = _below(values, "cycles-"), _below(values, "total-cycles-")
    return {engine: (busy[engine], total[engine]) for engine in busy if engine in total}


class Shares:
    """What part of their engines' time clients had since the last look."""

    def __init__(self) -> None:
        self._last: dict[tuple[str, str], tuple[Client, float]] = {}

    def look(self, clients: tuple[Client, ...], now_s: float) -> Mapping[tuple[str, str], float]:
        """By address and number of the client: of its engines the busiest, 0 to 1; nothing of a
        client that was not there before. `now_s` is monotonic."""
        before = self._last
        self._last = {(c.pci_address, c.number): (c, now_s) for c in clients}
        found = {}
        for key, (client, _) in self._last.items():
            if key in before:
                old, then_s = before[key]
                found[key] = _busiest(old, client, now_s - then_s)
        return found


def _busiest(old: Client, new: Client, seconds: float) -> float:
    times = [
        (busy - old.engines[engine]) / (seconds * 1e9)
        for engine, busy in new.engines.items()
        if engine in old.engines and seconds > 0
    ]
    cycles = [
        (busy - old.cycles[engine][0]) / (total - old.cycles[engine][1])
        for engine, (busy, total) in new.cycles.items()
        if engine in old.cycles and total > old.cycles[engine][1]
    ]
    return min(max([*times, *cycles, 0.0]), 1.0)

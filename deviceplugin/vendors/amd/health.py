"""How an AMD GPU is: RAS counters and bad pages (Documentation/gpu/amdgpu/ras.rst), bus, heat."""

from collections.abc import Iterator, Mapping

from msgspec import Struct, field
from msgspec.structs import replace

from deviceplugin.errors import DiscoveryError
from deviceplugin.host import Host
from deviceplugin.host.numbers import parse_decimal
from deviceplugin.host.pci import DEVICES
from deviceplugin.host.pci_faults import error_events, standing_faults
from deviceplugin.host.readings import Readings, read_hardware
from deviceplugin.model import Device, DeviceID, Fault, FaultClass
from deviceplugin.vendor import Finding
from deviceplugin.vendors.amd.gpus import AMDGPU, GIM

RAS = "amd.ras"
_COUNTERS = "_err_count"
BAD_PAGES = "gpu_vram_bad_pages"
_RESET = "drain the node and reset the GPU; if it returns, have it replaced"


class HealthReading(Struct, frozen=True, kw_only=True):
    """What was read of one GPU: uncorrectable and correctable errors by block, bad pages."""

    hardware: Readings = field(default_factory=Readings)
    uncorrectable: Mapping[str, int] = field(default_factory=dict)
    correctable: int | None = None
    pages: str | None = None


class AmdHealth:
    """Asks the GPUs; keeps the last look at each, to see what rose."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._last: dict[DeviceID, HealthReading] = {}
        self._in_kfd: set[DeviceID] = set()

    def probe(self, device: Device) -> Finding:
        """What is wrong with a GPU now, and what happened since the last look."""
        # What another driver has made of the function, or a guest does with it, is no fault.
        if device.pci_address is None or device.driver not in (None, AMDGPU, GIM):
            return Finding()
        now = read_health(self._host, device.pci_address)
        before = self._last.get(device.id, now)
        self._last[device.id] = now
        found = finding(device, before, now)
        return replace(found, faults=(*found.faults, *self._kfd_faults(device)))

    def _kfd_faults(self, device: Device) -> Iterator[Fault]:
        """A GPU that KFD showed and no longer shows, unless it was divided since."""
        if device.resource is None:
            self._in_kfd.discard(device.id)
        elif device.architecture is not None:
            self._in_kfd.add(device.id)
        elif device.id in self._in_kfd:
            yield Fault(
                device=device.id,
                source="amd.kfd",
                code="node_gone",
                reason="KFD does not show the GPU any more: ROCm cannot use it",
                kind=FaultClass.RESET,
                action="see the kernel log for amdgpu and kfd; reset the GPU or reload the driver",
            )


def finding(device: Device, before: HealthReading, now: HealthReading) -> Finding:
    """What two looks at a GPU say; pure."""
    events = (*error_events(device, before.hardware, now.hardware), *_rises(device, before, now))
    known = bool(now.uncorrectable) and now.correctable is not None
    return Finding(
        faults=(*standing_faults(device, now.hardware), *_standing(device, now)),
        events=events,
        # The driver counts from its load on: a sum that falls means a reload.
        reset_counter=sum(now.uncorrectable.values()) + (now.correctable or 0) if known else None,
    )


def _rises(device: Device, before: HealthReading, now: HealthReading) -> Iterator[Fault]:
    for block, count in now.uncorrectable.items():
        if count > before.uncorrectable.get(block, count):
            text = (f"{block}_uncorrectable", f"uncorrectable error in block {block}")
            yield _fault(device, (*text, FaultClass.RESET), _RESET)


def _standing(device: Device, now: HealthReading) -> Iterator[Fault]:
    failed = {block: count for block, count in now.uncorrectable.items() if count}
    if failed:
        told = ", ".join(f"{count} in {block}" for block, count in failed.items())
        text = ("uncorrectable", f"uncorrectable errors since the driver was loaded: {told}")
        yield _fault(device, (*text, FaultClass.WARN), "reset the GPU at the next drain")
    flags = parse_bad_pages(now.pages or "")
    if flags.get("F"):
        text = ("bad_page_failed", f"{flags['F']} bad memory pages could not be reserved")
        yield _fault(device, (*text, FaultClass.HARDWARE), "reboot; if it returns, replace it")
    if flags.get("P"):
        text = ("bad_page_pending", f"{flags['P']} bad memory pages wait to be retired")
        yield _fault(device, (*text, FaultClass.WARN), "reset the GPU at the next drain")


def read_health(host: Host, address: str) -> HealthReading:
    """One look; what cannot be read is unknown."""
    path = f"{DEVICES}/{address}/ras"
    known = dict(read_counters(host, path))
    return HealthReading(
        hardware=read_hardware(host, address),
        uncorrectable={block: pair[0] for block, pair in known.items()},
        correctable=sum(pair[1] for pair in known.values()) if known else None,
        pages=_read(host, f"{path}/{BAD_PAGES}"),
    )


def read_counters(host: Host, path: str) -> Iterator[tuple[str, tuple[int, int]]]:
    """Uncorrectable and correctable errors of each block that counts them, below `path`."""
    try:
        names = host.read_names(path)
    except DiscoveryError:
        return
    for name in names:
        text = _read(host, f"{path}/{name}") if name.endswith(_COUNTERS) else None
        pair = None if text is None else parse_counter(text)
        if pair is not None:
            yield name.removesuffix(_COUNTERS), pair


def parse_counter(text: str) -> tuple[int, int] | None:
    """`ue: 1` and `ce: 2` lines as (1, 2); None for another text."""
    pairs = dict(line.replace(" ", "").split(":", 1) for line in text.splitlines() if ":" in line)
    ue, ce = (parse_decimal(pairs.get(kind, "").strip()) for kind in ("ue", "ce"))
    return (ue, ce) if ue is not None and ce is not None else None


def parse_bad_pages(text: str) -> Mapping[str, int]:
    """How many `address : size : flag` lines there are of each flag (R, P, F)."""
    flags: dict[str, int] = {}
    for line in text.splitlines():
        parts = [part.strip() for part in line.split(":")]
        if len(parts) == 3 and parts[2] in ("R", "P", "F"):
            flags[parts[2]] = flags.get(parts[2], 0) + 1
    return flags


def _read(host: Host, path: str) -> str | None:
    try:
        return host.read_text(path)
    except DiscoveryError:
        return None


def _fault(device: Device, text: tuple[str, str, FaultClass], action: str) -> Fault:
    code, reason, kind = text
    return Fault(device=device.id, source=RAS, code=code, reason=reason, kind=kind, action=action)

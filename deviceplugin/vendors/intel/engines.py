"""How busy the engines of an Intel GPU are, by the counters of its driver's PMU.

i915 counts the nanoseconds in which each engine was busy, xe its active ticks and all ticks (since
Linux 6.15, drivers/gpu/drm/xe/xe_pmu.c); virtual functions have no PMU. Where the kernel does not
let us count (perf_event_open(2)) there is nothing here, and what processes did is all that is
known. Not seen on hardware yet.
"""

import errno
import re
from collections.abc import Iterable, Iterator
from itertools import islice

from msgspec import Struct

from deviceplugin.host import Host
from deviceplugin.host.numbers import numbered
from deviceplugin.host.optional import optional_names
from deviceplugin.host.pci import DEVICES
from deviceplugin.host.perf import Counter, Open, Pmu, open_counter, read_pmu
from deviceplugin.model import Device, DeviceID
from deviceplugin.vendor.measuring import NANO, Rates, Values

# By the kernel's name of an engine class: what we call it, and the class in xe_drm.h. Both kinds
# that compute share the same units, so the busier of them is how busy the GPU is.
_CLASSES = {
    "rcs": ("compute", 0),
    "bcs": ("copy", 1),
    "vcs": ("video", 2),
    "vecs": ("video_enhance", 3),
    "ccs": ("compute", 4),
}
_BUSY = re.compile(r"([a-z]{1,8})[0-9]{1,3}-busy")  # an event of i915
_ACTIVE, _TOTAL = "engine-active-ticks", "engine-total-ticks"
_INSTANCES = 9  # of a class in a GT, at most; some may be fused off
_MOST = 64  # engines of a GPU
_FORBIDDEN = {errno.EACCES, errno.EPERM, errno.ENOSYS}


class _Engine(Struct, frozen=True):
    """One engine: without `total` it counts nanoseconds."""

    label: str
    number: int
    active: Counter
    total: Counter | None = None


class Engines:
    """Keeps the counters of each GPU open; `opener` is the system call."""

    def __init__(self, host: Host, rates: Rates, opener: Open = open_counter) -> None:
        self._host, self._rates, self._open = host, rates, opener
        self._engines: dict[DeviceID, tuple[_Engine, ...]] = {}

    def measure(self, gpu: Device) -> Values:
        """The busiest engine of each kind since the last time; nothing the first time."""
        if gpu.id not in self._engines:
            pmu = _pmu_of(self._host, gpu)
            if pmu is None:
                return
            self._engines[gpu.id] = tuple(islice(self._opened(pmu, gpu), _MOST))
        busiest: dict[str, float] = {}
        try:
            for engine in self._engines[gpu.id]:
                ratio = self._ratio(gpu, engine)
                if ratio is not None:
                    busiest[engine.label] = max(ratio, busiest.get(engine.label, 0.0))
        except OSError:  # the driver was reloaded: others are opened the next time
            del self._engines[gpu.id]
        for label, ratio in busiest.items():
            yield "utilization_ratio", min(ratio, 1.0), (("engine", label),)

    def _ratio(self, gpu: Device, engine: _Engine) -> float | None:
        key = (gpu.id, engine.number)
        if engine.total is None:
            busy_s = engine.active.read() * NANO
            return self._rates.per_second(key, busy_s)
        return self._rates.over(key, engine.active.read(), engine.total.read())

    def _opened(self, pmu: Pmu, gpu: Device) -> Iterator[_Engine]:
        """The engines that there are; the kernel refuses the others."""
        for number, (label, configs) in enumerate(self._possible(pmu, gpu)):
            try:
                counters = [self._open(pmu, config) for config in configs]
            except OSError as error:
                if error.errno in _FORBIDDEN:
                    return
                continue
            yield _Engine(label, number, *counters)

    def _possible(self, pmu: Pmu, gpu: Device) -> Iterator[tuple[str, tuple[int, ...]]]:
        for event in pmu.events:
            match = _BUSY.fullmatch(event)
            label, _ = _CLASSES.get(match[1] if match else "", ("", 0))
            config = pmu.config(event)
            if label and config is not None:
                yield label, (config,)
        for gt in _gts(self._host, gpu):
            for label, kind in _CLASSES.values():
                for instance in range(_INSTANCES):
                    terms = {"gt": gt, "engine_class": kind, "engine_instance": instance}
                    configs = [pmu.config(event, **terms) for event in (_ACTIVE, _TOTAL)]
                    known = tuple(config for config in configs if config is not None)
                    if len(known) == len(configs):
                        yield label, known


def _pmu_of(host: Host, gpu: Device) -> Pmu | None:
    address = (gpu.pci_address or "").replace(":", "_")
    names = [f"{driver}_{address}" for driver in ("xe", "i915")]
    if gpu.pci_address == "0000:00:02.0":
        names.append("i915")  # an integrated GPU
    return next((pmu for name in names if (pmu := read_pmu(host, name))), None)


def _gts(host: Host, gpu: Device) -> Iterable[int]:
    """The GTs of xe, numbered through all tiles."""
    path = f"{DEVICES}/{gpu.pci_address}"
    for _, tile in numbered(optional_names(host, path), "tile"):
        for number, _ in numbered(optional_names(host, f"{path}/{tile}"), "gt"):
            yield number

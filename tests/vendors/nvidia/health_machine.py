"""An NVIDIA vendor over the NVML double, and a place where its health reports arrive."""

import queue
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from msgspec import Struct, field

from deviceplugin.host import Host
from deviceplugin.model import Device, Fault
from deviceplugin.vendors.nvidia import create
from deviceplugin.vendors.nvidia.settings import MigSection, NvidiaSection
from deviceplugin.vendors.nvidia.vendor import NvidiaVendor
from tests.fakes.nvml import NvmlDouble, write_host_tree
from tests.rig import WAIT_S, two_a100


class Report(Struct):
    """Fulfils HealthReport."""

    events: "queue.SimpleQueue[Fault]" = field(default_factory=queue.SimpleQueue)
    looks: "queue.SimpleQueue[None]" = field(default_factory=queue.SimpleQueue)

    def faults(self, source: str, faults: object) -> None:
        raise AssertionError("NVIDIA reports events and is probed")

    def event(self, fault: Fault) -> None:
        self.events.put(fault)

    def happened(self, fault: Fault) -> None:
        raise AssertionError("the old name")

    def rediscover(self) -> None:
        self.looks.put(None)


class Machine(Struct):
    """A double and the vendor that looks at it."""

    root: Path
    double: NvmlDouble
    vendor: NvidiaVendor

    def devices(self) -> tuple[Device, ...]:
        write_host_tree(self.root, self.double.scenario)
        return self.vendor.discover().devices

    @contextmanager
    def watching(self) -> Iterator[Report]:
        """The events of these devices, from registration on."""
        report, stop = Report(), threading.Event()
        arguments = (self.devices(), report, stop)
        thread = threading.Thread(target=self.vendor.watch_health, args=arguments, daemon=True)
        thread.start()
        report.looks.get(timeout=WAIT_S)  # it has registered
        try:
            yield report
        finally:
            stop.set()
            thread.join(WAIT_S)
            assert not thread.is_alive()


def machine_at(root: Path) -> Machine:
    """Two A100 below `root`."""
    double = two_a100(root)
    sections = {"nvidia": NvidiaSection(), "mig": MigSection()}
    return Machine(root, double, create(Host(root), sections))

"""A node of two vendors whose daemon has a layer of faults below it."""

import asyncio
import json
from collections.abc import Callable, Mapping
from pathlib import Path

from msgspec import Struct, field

from deviceplugin.runtime.control import ControlError, ask_daemon
from deviceplugin.testing.amd import MI210, SimulatedGpu, write_amd_node
from deviceplugin.testing.intel import B60, write_intel_node
from tests.fakes.syscalls import Faults
from tests.rig import WAIT_S, DaemonProcess, Rig

AMD, MEMORY, INTEL = "amd.com/gpu", "amd.com/gpu-memory-16gi", "intel.com/gpu"
GPUS = tuple(
    SimulatedGpu(address=f"0000:{bus}:00.0", model=MI210, unique_id=f"5b1c7e02d4a86f{bus}")
    for bus in ("05", "27", "47", "65", "85", "a5", "c5", "e5")
)
EACH = 3  # slices of 16 GiB of an MI210
PLAIN = {AMD: 2, INTEL: 1}
FORMS = {AMD: 8, MEMORY: 8 * EACH, INTEL: 1}
# Forms that exclude each other; a policy that writes down whose turn it is.
CDI_CONFIG = """
amd: {device_list_strategy: [device-specs, cdi-cri]}
"""
FORMS_CONFIG = f"""{CDI_CONFIG}
rules: [{{match: {{vendor: amd}}, offers: [whole, {{memory: {{unit: 16GiB}}}}]}}]
scheduling: {{policy: round_robin}}
"""


class Node(Struct):
    """Two MI210 and a B60 below `rig`; `faults` are those of each daemon that `start` starts."""

    rig: Rig
    faults: Faults
    config: str = CDI_CONFIG
    full: Mapping[str, int] = field(default_factory=lambda: PLAIN)

    def __post_init__(self) -> None:
        write_amd_node(self.rig.host_root, GPUS[:2])
        write_intel_node(self.rig.host_root, B60)

    def offer_forms(self) -> None:
        """Eight AMD GPUs, whole and in slices, in turns."""
        write_amd_node(self.rig.host_root, GPUS)
        self.config, self.full = FORMS_CONFIG, FORMS

    def start(self, *arguments: str) -> DaemonProcess:
        """A daemon, with the faults that stand."""
        config = str(self.rig.config(self.config))
        flags = ("--config", config, "--vendors", "amd,intel", *arguments)
        return self.rig.start(*flags, **self.faults.environment)

    async def up(self, *arguments: str) -> DaemonProcess:
        """Kubelet and daemon, until everything is listed."""
        await self.rig.stub.start()
        daemon = self.start(*arguments)
        await self.right()
        return daemon

    async def right(self) -> None:
        """Wait until every device is listed, Healthy, to one stream a resource."""
        await self.lists(self.full)

    async def lists(self, healthy: Mapping[str, int]) -> None:
        """Wait until the kubelet knows all devices, and so many of them as healthy."""
        stub = self.rig.stub
        await stub.wait_for(lambda: self._lists(healthy), WAIT_S, f"{dict(healthy)} healthy")

    def _lists(self, healthy: Mapping[str, int]) -> bool:
        stub = self.rig.stub
        once = all(stub.live_streams(name) == 1 for name in self.full)
        return once and stub.capacity() == self.full and stub.allocatable() == healthy

    async def right_or_dead(self, daemon: DaemonProcess) -> None:
        """Wait until everything is listed or the daemon has ended."""
        await self._until(lambda: self._lists(self.full), daemon)

    async def turn_written_or_dead(self, daemon: DaemonProcess, resource: str, gpu: str) -> None:
        """Wait until the file says whose turn it was last, or the daemon has ended."""
        path = self.rig.state_dir / "placement.json"

        def written() -> bool:
            turns = json.loads(path.read_text())["handed_out"] if path.exists() else {}
            return bool(turns.get(resource) == gpu)

        await self._until(written, daemon)

    async def _until(self, done: Callable[[], bool], daemon: DaemonProcess) -> None:
        async with asyncio.timeout(WAIT_S):
            while daemon.process.poll() is None and not done():  # noqa: ASYNC110  # untold
                await asyncio.sleep(0.01)

    def pull(self, gpu: SimulatedGpu) -> None:
        """Take an AMD GPU off the bus."""
        (self.rig.host_root / f"sys/bus/pci/devices/{gpu.address}").unlink()

    async def order(self, operation: str, device: str, state_dir: Path | None = None) -> str:
        """An operator's order; empty where the daemon said that it did it, else what it said.

        Asked again where a daemon is there that did not answer in time: the machine may be busy.
        """
        request = {"operation": operation, "device": device, "reason": "test"}
        async with asyncio.timeout(WAIT_S):
            while True:
                try:
                    await asyncio.to_thread(ask_daemon, state_dir or self.rig.state_dir, request)
                except ControlError as error:
                    if not isinstance(error.__cause__, TimeoutError | ValueError):
                        return str(error)
                else:
                    return ""

    def remembers(self, device: str) -> bool:
        """Whether the file of faults and cordons names the device."""
        path = self.rig.state_dir / "health.json"
        return path.exists() and device in path.read_text()

    def ids(self) -> Mapping[str, list[str]]:
        """Everything that is listed."""
        return {name: sorted(self.rig.stub.devices(name)) for name in self.full}

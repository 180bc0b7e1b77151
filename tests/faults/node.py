"""A node of two vendors whose daemon has a layer of faults below it."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from deviceplugin.testing.amd import MI210, SimulatedGpu, write_amd_node
from deviceplugin.testing.intel import B60, write_intel_node
from tests.fakes.syscalls import Faults
from tests.rig import WAIT_S, DaemonProcess, Rig

AMD, MEMORY, INTEL = "amd.com/gpu", "amd.com/gpu-memory", "intel.com/gpu"
GPUS = tuple(
    SimulatedGpu(address=f"0000:{bus}:00.0", model=MI210, unique_id=f"5b1c7e02d4a86f{bus}")
    for bus in ("05", "27")
)
SLICES = 63  # GiB of an MI210 that KFD tells of
PLAIN = {AMD: 2, INTEL: 1}
FORMS = {AMD: 2, MEMORY: 2 * SLICES, INTEL: 1}
# Forms that exclude each other; a policy that writes down whose turn it is.
FORMS_CONFIG = """
rules: [{match: {vendor: amd}, offers: [whole, {memory: {unit: 1GiB}}]}]
scheduling: {policy: round_robin}
"""


@dataclass
class Node:
    """Two MI210 and a B60 below `rig`; `faults` are those of each daemon that `start` starts."""

    rig: Rig
    faults: Faults
    config: str = "{}"
    full: Mapping[str, int] = field(default_factory=lambda: PLAIN)

    def __post_init__(self) -> None:
        write_amd_node(self.rig.host_root, GPUS)
        write_intel_node(self.rig.host_root, B60)

    def offer_forms(self) -> None:
        """Offer AMD GPUs whole and in slices, in turns."""
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
        """Wait until every device is listed, Healthy, once."""
        await self.rig.allocatable(self.full, WAIT_S)
        stub = self.rig.stub
        await stub.wait_for(
            lambda: stub.capacity() == self.full
            and all(stub.live_streams(name) == 1 for name in self.full),
            WAIT_S,
            "everything listed once",
        )

    def healthy(self, resource: str) -> set[str]:
        """The ids that a pod could get."""
        listed = self.rig.stub.devices(resource).values()
        return {device.id for device in listed if device.health == "Healthy"}

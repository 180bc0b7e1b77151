"""Our drivers as the suite starts and ends them: in this process, on a node of their own."""

from pathlib import Path

from deviceplugin.dra.section import DraSection
from deviceplugin.model import DeviceID, Fault
from deviceplugin.testing.apiserver import ApiServer
from tests.dra.simulated import Places, Simulated

BOOT_ID = "proc/sys/kernel/random/boot_id"


class Ours:
    """A daemon's DRA below `root`; another life each time."""

    def __init__(self, root: Path, api: ApiServer) -> None:
        self.root, self.api, self._node = root, api, Simulated.__new__(Simulated)
        places = Places(root)
        self.kubelet_dir, self.cdi_dir = places.kubelet_dir, places.cdi_dir
        self.state_dir = places.state_dir
        self.running = False
        self._boots = 0
        self.reboot()

    async def start(self) -> None:
        self._node = Simulated(self.root, self.api, DraSection(enabled=True))
        self._node.node.load()
        self._node.node.start()
        self.running = True

    async def end(self) -> None:
        if self.running:
            await self._node.node.end()
        self.running = False

    async def kill(self) -> None:
        """Nothing that is done at an end is needed afterwards: all is on disk before an answer.
        That sockets are left as well is shown on a process."""
        await self.end()

    def another(self) -> "Ours":
        return Ours(self.root, self.api)

    def fail(self, device: str | None) -> bool:
        if device is None:
            self._node.store.set_faults("test", [])
            return True
        found = DeviceID(f"GPU-{device.removeprefix('gpu-')}")
        fault = Fault(device=found, source="test", code="lost", reason="it fails")
        self._node.store.set_faults("test", [fault])
        return True

    def reboot(self) -> bool:
        path = self.root / BOOT_ID
        path.parent.mkdir(parents=True, exist_ok=True)
        if self._boots or not path.exists():
            path.write_text(f"00000000-0000-0000-0000-{self._boots:012}\n")
        self._boots += 1
        return True

"""The process that partitions, on a simulated node: the real one's code, over a small kernel."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from threading import Event, Thread

from deviceplugin.host import Host
from deviceplugin.provision.helper import Around, Helper
from deviceplugin.provision.server import serve
from deviceplugin.testing.amd import SimulatedGpu
from deviceplugin.testing.intel import IntelGpu
from deviceplugin.testing.partition_kernel import Kernel
from deviceplugin.vendor.partitions import Partitioner


class PrivilegedProcess:
    """A thread here; on a node it is `deviceplugin provision`, in a container of its own."""

    def __init__(self, root: Path, amd: Sequence[SimulatedGpu], intel: IntelGpu) -> None:
        self._root, self._kernel = root, Kernel(root, (intel,), tuple(amd))

    def start(self) -> None:
        """Serve until the demo ends."""
        state_dir = self._root.parent / "state"
        helper = Helper(self._hands(), Around(state_dir=state_dir, boot="demo"))
        Thread(target=serve, args=(state_dir, helper.answer, Event()), daemon=True).start()

    def _hands(self) -> Mapping[str, Partitioner]:
        from deviceplugin.vendors.amd.partitioning import AmdPartitioner  # noqa: PLC0415
        from deviceplugin.vendors.intel.partitioning import IntelPartitioner  # noqa: PLC0415

        host, write = Host(self._root), self._kernel.write
        return {
            "amd": AmdPartitioner(host, write, self._kernel),
            "intel": IntelPartitioner(host, write),
        }

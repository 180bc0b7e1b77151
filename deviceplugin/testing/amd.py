"""Simulated AMD nodes: the PCI, DRM, KFD and VFIO files of GPUs and virtual functions, as text.

The layouts follow the amdgpu and amdkfd drivers; numbers are those of recorded machines where there
are such (MI210, MI300X and MI308X topologies), else plausible. Nothing here ran on hardware.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from deviceplugin.testing.tree import remove, write_tree

KFD = "/sys/devices/virtual/kfd/kfd/topology"
PCI_ROOT = "/sys/devices/pci0000:40"
COUNTS = {"SPX": 1, "DPX": 2, "TPX": 3, "QPX": 4}
MIB = 1 << 20


class Model(Struct, frozen=True, kw_only=True):
    """A GPU model; `dies` is 1 where it cannot be partitioned."""

    device_id: int
    class_id: int = 0x120000
    memory_bytes: int
    simds: int
    gfx_target_version: int
    dies: int = 1
    xgmi_weight: int = 41

    @property
    def slots(self) -> int:
        """The platform devices that each GPU owns, whatever its mode."""
        return 7 if self.dies > 1 else 0


MI210 = Model(
    device_id=0x740F,
    class_id=0x038000,
    memory_bytes=68702699520,
    simds=416,
    gfx_target_version=90010,
    xgmi_weight=15,
)
MI300X = Model(
    device_id=0x74A1, memory_bytes=206141652992, simds=1216, gfx_target_version=90402, dies=8
)
MI308X = replace(MI300X, device_id=0x74A2, simds=320, dies=4)


class SimulatedGpu(Struct, frozen=True, kw_only=True):
    """A GPU under amdgpu; `dead` partitions got neither a DRM minor nor a KFD node."""

    address: str
    model: Model
    unique_id: str | None = None
    numa_node: int = 0
    mode: str = "SPX"
    memory_mode: str = "NPS1"
    hive: int = 0
    separator: str = "_"
    dead: frozenset[int] = frozenset()

    @property
    def live(self) -> tuple[int, ...]:
        """The numbers of its live partitions; (0,) for a whole GPU."""
        count = self.model.dies if self.mode == "CPX" else COUNTS[self.mode]
        return tuple(n for n in range(count) if n not in self.dead)

    @property
    def location_id(self) -> int:
        """Bus, device and function in one number, as KFD writes it."""
        _, bus, rest = self.address.split(":")
        slot, function = rest.split(".")
        return int(bus, 16) << 8 | int(slot, 16) << 3 | int(function)


class SimulatedHostFunctions(Struct, frozen=True, kw_only=True):
    """A physical function with its virtual functions on their host; `group` is the IOMMU group of
    the first, `grouped` how many share one."""

    address: str
    device_id: int
    vf_device_id: int
    class_id: int = 0x038000
    functions: int = 8
    driver: str = "vfio-pci"
    group: int = 218
    grouped: int = 1
    numa_node: int = 1

    def vf_address(self, number: int) -> str:
        """The address of a VF: eight to a device, from device 2 on (sriov_offset 16)."""
        return f"{self.address.rpartition(':')[0]}:{2 + number // 8:02x}.{number % 8}"


V620_HOST = SimulatedHostFunctions(address="0000:c3:00.0", device_id=0x73A1, vf_device_id=0x73AE)
DEMO_GPUS = (
    SimulatedGpu(address="0000:05:00.0", model=MI300X, unique_id="e3aa140f9a5f9e31"),
    SimulatedGpu(
        address="0000:27:00.0",
        model=MI300X,
        unique_id="5b1c7e02d4a86f90",
        numa_node=1,
        mode="CPX",
        memory_mode="NPS4",
    ),
)


def write_amd_node(
    root: Path,
    gpus: Sequence[SimulatedGpu] = DEMO_GPUS,
    hosts: Sequence[SimulatedHostFunctions] = (),
) -> None:
    """A node below `root`: by default one MI300X whole and one in eight partitions."""
    write_tree(root, amd_tree(gpus, hosts))


def switch_mode(
    root: Path, gpus: Sequence[SimulatedGpu], address: str, mode: str
) -> tuple[SimulatedGpu, ...]:
    """Switch the compute mode of one GPU of a written node, as its administrator would.

    Only the mode and the KFD topology change, with a new generation; returns the GPUs as they are
    now.
    """
    generation = int((root / f"{KFD}/generation_id".lstrip("/")).read_text())
    now = tuple(replace(gpu, mode=mode) if gpu.address == address else gpu for gpu in gpus)
    remove(root, f"{KFD}/nodes")
    changed = next(gpu for gpu in now if gpu.address == address)
    write_tree(root, "\n".join([*_mode_lines(changed), *_kfd_lines(now, generation + 1)]))
    return now


def amd_tree(gpus: Sequence[SimulatedGpu], hosts: Sequence[SimulatedHostFunctions] = ()) -> str:
    """The tree text of a node: a BMC's display, the GPUs with KFD, and functions of a host."""
    lines = [*_bmc_lines()]
    for gpu, first in zip(gpus, _first_slots(gpus), strict=True):
        lines += _gpu_lines(gpu, first)
    if gpus:
        lines += ["/dev/kfd c 235:0", "/sys/class/kfd/kfd -> ../../devices/virtual/kfd/kfd"]
        lines += _kfd_lines(gpus)
    for host in hosts:
        lines += _host_lines(host)
    return "\n".join(lines)


def _first_slots(gpus: Sequence[SimulatedGpu]) -> list[int]:
    """How many DRM devices come before each GPU's own: minors are given out in this order."""
    ends = accumulate((1 + gpu.model.slots for gpu in gpus), initial=0)
    return list(ends)[: len(gpus)]


def _bmc_lines() -> Iterator[str]:
    """Every server has one; its card number moves all others by one."""
    yield from pci_lines("0000:c1:00.0", 0x1A03, 0x2000, 0x030000)
    yield f"{PCI_ROOT}/0000:c1:00.0/driver -> ../../../bus/pci/drivers/ast"
    yield f"{PCI_ROOT}/0000:c1:00.0/drm/card0/dev = 226:0"
    yield "/dev/dri/card0 c 226:0"


def pci_lines(address: str, vendor: int, device: int, class_id: int) -> Iterator[str]:
    """What identifies a PCI function."""
    path = f"{PCI_ROOT}/{address}"
    yield f"{path}/vendor = 0x{vendor:04x}"
    yield f"{path}/device = 0x{device:04x}"
    yield f"{path}/class = 0x{class_id:06x}"
    yield f"/sys/bus/pci/devices/{address} -> ../../../devices/pci0000:40/{address}"


def _gpu_lines(gpu: SimulatedGpu, first: int) -> Iterator[str]:
    path = f"{PCI_ROOT}/{gpu.address}"
    yield from pci_lines(gpu.address, 0x1002, gpu.model.device_id, gpu.model.class_id)
    yield f"{path}/driver -> ../../../bus/pci/drivers/amdgpu"
    yield f"{path}/numa_node = {gpu.numa_node}"
    yield f"{path}/mem_info_vram_total = {gpu.model.memory_bytes}"
    if gpu.unique_id:
        yield f"{path}/unique_id = {gpu.unique_id}"
    yield from _drm_lines(path, gpu.address, first)
    if gpu.model.dies > 1:
        yield from _mode_lines(gpu)
        yield from _platform_lines(gpu, first)


def _mode_lines(gpu: SimulatedGpu) -> Iterator[str]:
    path = f"{PCI_ROOT}/{gpu.address}"
    yield f"{path}/current_compute_partition = {gpu.mode}"
    yield f"{path}/available_compute_partition = SPX, DPX, QPX, CPX"
    yield f"{path}/current_memory_partition = {gpu.memory_mode}"
    yield f"{path}/available_memory_partition = NPS1, NPS4"


def _platform_lines(gpu: SimulatedGpu, first: int) -> Iterator[str]:
    """`amdgpu_xcp_<k>`: k counts all such devices of the node, GPU after GPU."""
    for number in range(1, gpu.model.slots + 1):
        if number in gpu.dead:
            continue
        name = f"amdgpu_xcp{gpu.separator}{7 * (first // 8) + number - 1}"
        path = f"/sys/devices/platform/{name}"
        yield f"{path}/uevent = MODALIAS=platform:amdgpu_xcp"
        yield from _drm_lines(path, name, first + number)


def _drm_lines(path: str, name: str, number: int) -> Iterator[str]:
    minor, card = 128 + number, 1 + number
    for node, dev in ((f"card{card}", card), (f"renderD{minor}", minor)):
        yield f"{path}/drm/{node}/dev = 226:{dev}"
        yield f"{path}/drm/{node}/device -> ../../../{name}"
        yield f"/sys/class/drm/{node} -> ../..{path.removeprefix('/sys')}/drm/{node}"
        yield f"/dev/dri/{node} c 226:{dev}"


def _kfd_lines(gpus: Sequence[SimulatedGpu], generation: int = 1) -> Iterator[str]:
    yield f"{KFD}/generation_id = {generation}"
    yield f"{KFD}/nodes/0/properties = cpu_cores_count 96\\nsimd_count 0\\ndrm_render_minor 0"
    places = [
        (gpu, first, partition)
        for gpu, first in zip(gpus, _first_slots(gpus), strict=True)
        for partition in gpu.live
    ]
    numbered = list(enumerate(places, 1))
    for number, (gpu, first, partition) in numbered:
        base = f"{KFD}/nodes/{number}"
        yield f"{base}/properties = " + "\\n".join(_properties(gpu, first, partition))
        size = _partition_bytes(gpu, partition)
        yield f"{base}/mem_banks/0/properties = heap_type 1\\nsize_in_bytes {size}"
        yield f"{base}/io_links/0/properties = type 2\\nnode_from {number}\\nnode_to 0\\nweight 20"
        peers = [(n, place[0]) for n, place in numbered if n != number]
        yield from _link_lines(base, gpu, peers)


def _properties(gpu: SimulatedGpu, first: int, partition: int) -> Iterator[str]:
    count = len(gpu.live) + len(gpu.dead)
    yield f"simd_count {gpu.model.simds // count}"
    yield "simd_per_cu 4"
    yield f"gfx_target_version {gpu.model.gfx_target_version}"
    yield "vendor_id 4098"
    yield f"device_id {gpu.model.device_id}"
    yield f"location_id {gpu.location_id + partition}"
    yield f"domain {int(gpu.address[:4], 16)}"
    yield f"drm_render_minor {128 + first + partition}"
    yield f"hive_id {gpu.hive}"
    yield f"num_xcc {gpu.model.dies // count}"
    yield f"unique_id {int(gpu.unique_id or '0', 16)}"


def _partition_bytes(gpu: SimulatedGpu, partition: int) -> int:
    """The last range of the memory is 16 MiB short, as on recorded machines."""
    count = len(gpu.live) + len(gpu.dead)
    share = (gpu.model.memory_bytes + 16 * MIB) // count
    return share - 16 * MIB if partition == count - 1 else share


def _link_lines(
    base: str, gpu: SimulatedGpu, peers: Iterable[tuple[int, SimulatedGpu]]
) -> Iterator[str]:
    for index, (number, peer) in enumerate(peers, 1):
        folder, kind, weight = "io_links", 11, gpu.model.xgmi_weight
        if peer.address == gpu.address:
            weight = 13
        elif not gpu.hive or peer.hive != gpu.hive:
            folder, kind, weight = "p2p_links", 2, 72
        text = f"type {kind}\\nnode_to {number}\\nweight {weight}"
        yield f"{base}/{folder}/{index}/properties = {text}"


def _host_lines(host: SimulatedHostFunctions) -> Iterator[str]:
    path = f"{PCI_ROOT}/{host.address}"
    yield from pci_lines(host.address, 0x1002, host.device_id, host.class_id)
    yield f"{path}/driver -> ../../../bus/pci/drivers/gim"
    yield f"{path}/numa_node = {host.numa_node}"
    yield f"{path}/sriov_totalvfs = {host.functions}"
    yield f"{path}/sriov_numvfs = {host.functions}"
    yield "/sys/module/gim/version = 8.1.0.K"
    yield "/dev/vfio/vfio c 10:196"
    for number in range(host.functions):
        yield f"{path}/virtfn{number} -> ../{host.vf_address(number)}"
        yield from _vf_lines(host, number)


def _vf_lines(host: SimulatedHostFunctions, number: int) -> Iterator[str]:
    address, group = host.vf_address(number), host.group + number // host.grouped
    path = f"{PCI_ROOT}/{address}"
    yield from pci_lines(address, 0x1002, host.vf_device_id, host.class_id)
    yield f"{path}/driver -> ../../../bus/pci/drivers/{host.driver}"
    yield f"{path}/numa_node = {host.numa_node}"
    yield f"{path}/physfn -> ../{host.address}"
    yield f"{path}/driver_override = (null)"
    yield f"{path}/iommu_group -> ../../../kernel/iommu_groups/{group}"
    yield f"/sys/kernel/iommu_groups/{group}/devices/{address} -> ../../../../devices/{address}"
    yield f"/dev/vfio/{group} c 243:{number}"

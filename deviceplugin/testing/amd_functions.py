"""AMD's virtual functions on their host under amdgpu, so that containers of the host have them."""

from collections.abc import Iterator
from pathlib import Path

from msgspec.structs import replace

from deviceplugin.testing.amd import KFD, PCI_ROOT, SimulatedHostFunctions, amd_tree
from deviceplugin.testing.tree import write_tree

FIRST_MINOR, FIRST_NODE = 240, 100  # behind those of any GPU of the node


def write_container_functions(root: Path, host: SimulatedHostFunctions, memory: int) -> None:
    """The functions of `host`, each with `memory` bytes, beside what is below `root` already."""
    host = replace(host, driver="amdgpu")
    write_tree(root, "\n".join([amd_tree([], [host]), *_lines(host, memory)]))


def _lines(host: SimulatedHostFunctions, memory: int) -> Iterator[str]:
    yield f"{PCI_ROOT}/{host.address}/mem_info_vram_total = {memory * host.functions}"
    for number in range(host.functions):
        minor, address = FIRST_MINOR + number, host.vf_address(number)
        bus, _, place = address.partition(":")[2].partition(":")
        slot, _, function = place.partition(".")
        location = int(bus, 16) << 8 | int(slot, 16) << 3 | int(function)
        yield f"{PCI_ROOT}/{address}/mem_info_vram_total = {memory}"
        yield f"{PCI_ROOT}/{address}/drm/renderD{minor}/dev = 226:{minor}"
        yield f"/dev/dri/renderD{minor} c 226:{minor}"
        yield (
            f"{KFD}/nodes/{FIRST_NODE + number}/properties = simd_count 8\\nsimd_per_cu 4"
            f"\\nlocation_id {location}\\ndrm_render_minor {minor}"
        )

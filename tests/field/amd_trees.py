"""The AMD nodes of reports from the field, as trees."""

KFD = "/sys/class/kfd/kfd/topology"
BUS = "/sys/bus/pci/devices"
KFD_LINES = f"""
/dev/kfd c 511:0
{KFD}/generation_id = 2
{KFD}/nodes/0/properties = cpu_cores_count 16\\nsimd_count 0\\ndrm_render_minor 0
"""


def card(address: str, device_id: int, render: int, **files: str) -> str:
    """A GPU bound to amdgpu with its render and card nodes, and further files of its own."""
    at, number = f"{BUS}/{address}", render - 128
    lines = [
        f"{at}/vendor = 0x1002",
        f"{at}/device = {device_id:#06x}",
        f"{at}/class = {files.pop('class_id', '0x030000')}",
        f"{at}/numa_node = -1",
        f"{at}/driver -> ../../../bus/pci/drivers/{files.pop('driver', 'amdgpu')}",
        f"{at}/drm/renderD{render}/",
        f"{at}/drm/card{number}/",
        f"/sys/class/drm/renderD{render}/device -> ../../../bus/pci/devices/{address}",
        f"/dev/dri/renderD{render} c 226:{render}",
        f"/dev/dri/card{number} c 226:{number}",
        *(f"{at}/{name} = {value}" for name, value in files.items()),
    ]
    return "\n".join(lines) + "\n"


def node(number: int, render: int, properties: str, bank: int | None = None) -> str:
    """A GPU node of KFD; `properties` are more of its lines."""
    at = f"{KFD}/nodes/{number}"
    lines = f"{at}/properties = {properties}\\ndrm_render_minor {render}\n"
    if bank is not None:
        lines += f"{at}/mem_banks/0/properties = heap_type 1\\nsize_in_bytes {bank}\n"
    return lines


STRIX_HALO = (
    KFD_LINES
    + card(
        "0000:c6:00.0",
        0x1586,
        128,
        mem_info_vram_total="536870912",
        mem_info_gtt_total="103079215104",
    )
    + node(
        1,
        128,
        "simd_count 80\\nsimd_per_cu 2\\ngfx_target_version 110501\\nlocation_id 50688"
        "\\ndomain 0\\nhive_id 0",
        536870912,
    )
)
POLARIS = (
    KFD_LINES
    + card("0000:01:00.0", 0x67DF, 128, mem_info_vram_total="8589934592")
    + node(
        1,
        128,
        "simd_count 144\\nsimd_per_cu 4\\ngfx_target_version 80003\\nlocation_id 256\\ndomain 0",
    )
)
NAVI31 = card(
    "0000:03:00.0",
    0x744C,
    128,
    unique_id="0x0b5f0c8e1d2a3b4c",
    mem_info_vram_total="25753026560",
)
MI300X_VF_BYTES = 205822885888


def azure(mode: str = "SPX", memory: int = MI300X_VF_BYTES, parts: int = 1) -> str:
    """A guest with eight MI300X functions, each of `parts` partitions."""
    text = KFD_LINES
    for gpu in range(8):
        text += card(
            f"{gpu + 2:04x}:00:00.0",
            0x74B5,
            128 + gpu * parts,
            class_id="0x120000",
            unique_id=f"0x112233445566{gpu:04x}",
            mem_info_vram_total=str(memory),
            current_compute_partition=mode,
            current_memory_partition="NPS1",
        )
        for part in range(parts):
            minor = 128 + gpu * parts + part
            text += node(
                2 + gpu * parts + part,
                minor,
                f"simd_count {1216 // parts}\\nsimd_per_cu 4\\ngfx_target_version 90402"
                f"\\nlocation_id {part}\\ndomain {gpu + 2}\\nnum_xcc {8 // parts}",
                memory // parts,
            )
            if part:
                slot = gpu * 7 + part - 1
                text += (
                    f"/sys/devices/platform/amdgpu_xcp_{slot}/drm/renderD{minor}/\n"
                    f"/sys/class/drm/renderD{minor}/device"
                    f" -> ../../../devices/platform/amdgpu_xcp_{slot}\n"
                    f"/dev/dri/renderD{minor} c 226:{minor}\n"
                )
    return text


def mixed_modes() -> str:
    """Two MI300X in CPX and six in SPX."""
    text, number, minor = KFD_LINES, 1, 128
    for gpu in range(8):
        parts = 8 if gpu < 2 else 1
        bus = 0x10 + gpu
        text += card(
            f"0000:{bus:02x}:00.0",
            0x74A1,
            minor,
            class_id="0x120000",
            unique_id=f"0xe3aa140f9a5f9e{gpu:02x}",
            mem_info_vram_total="206141652992",
            current_compute_partition="CPX" if parts == 8 else "SPX",
            current_memory_partition="NPS1",
        )
        for part in range(parts):
            text += node(
                number,
                minor,
                f"simd_count {1216 // parts}\\nsimd_per_cu 4\\ngfx_target_version 90402"
                f"\\nlocation_id {bus << 8 | part}\\ndomain 0\\nnum_xcc {8 // parts}",
                206141652992 // parts,
            )
            text += f"/dev/dri/renderD{minor} c 226:{minor}\n"
            number, minor = number + 1, minor + 1
    return text

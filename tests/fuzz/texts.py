"""Text and messages of the kernel: every parser of the host and of the vendors."""

import os
import re
import struct

from deviceplugin.health.uevents import address_of, bound_again, wedged_faults
from deviceplugin.host.numbers import numbered, parse_decimal, parse_hexadecimal, parse_integer
from deviceplugin.host.pci import parse_address
from deviceplugin.host.uevents import parse_uevent
from deviceplugin.model import Device, DeviceID, LinkKind
from deviceplugin.runtime.inotify import parse_events
from deviceplugin.vendors.amd import frame_buffers as amd_memory
from deviceplugin.vendors.amd.gpus import parse_unique_id
from deviceplugin.vendors.amd.health import parse_bad_pages, parse_counter
from deviceplugin.vendors.amd.kfd import (
    nearest_links,
    parse_gfx_version,
    parse_link,
    parse_node,
    parse_properties,
)
from deviceplugin.vendors.intel import memory as intel_memory
from deviceplugin.vendors.intel.reader import parse_regions
from deviceplugin.vendors.nvidia.capabilities import parse_capability
from deviceplugin.vendors.nvidia.mig import parse_mig_minors, suffix_of
from deviceplugin.vendors.nvidia.platforms import parse_csv
from deviceplugin.vendors.nvidia.vgpu_host import parse_types, resource_of
from tests.fuzz.surface import Surface, is_line, text_of

ADDRESS = "0000:04:00.1"
GPU = Device(id=DeviceID("GPU-1"), vendor="intel", pci_address=ADDRESS)
PART = Device(id=DeviceID("part"), vendor="intel", pci_address=ADDRESS, parent=GPU.id)
NUMBERS = (b"0", b"1", b"-1", b"0x1f", b"18446744073709551616", "²".encode(), "٣".encode(), b"1_0")
MAX_64 = 10**20


def numbers(data: bytes) -> None:
    """What is read as a number is written as one again, and is of a size that counters have."""
    text = text_of(data)
    decimal, hexadecimal = parse_decimal(text), parse_hexadecimal(text)
    integer = parse_integer(text)
    if decimal is not None:
        assert parse_decimal(str(decimal)) == decimal == integer
        assert decimal < MAX_64
        assert text.lstrip("0") == str(decimal).lstrip("0")
    if hexadecimal is not None:
        assert parse_hexadecimal(f"{hexadecimal:x}") == hexadecimal == int(text, 16) < 1 << 64
    if integer is not None:
        assert parse_integer(str(integer)) == integer
        assert integer == int(text, 16 if "x" in text.lower() else 10)
    names = tuple(text.split())
    pairs = numbered(names, "card")
    assert [name for _, name in pairs] == sorted(
        (n for n in names if re.fullmatch(r"card[0-9]{1,20}", n)), key=lambda n: (int(n[4:]), n)
    )


def addresses(data: bytes) -> None:
    """A PCI address has one form, which sysfs has."""
    text = text_of(data)
    try:
        address = parse_address(text)
    except ValueError as error:
        assert "is not a PCI address" in str(error)
        return
    assert parse_address(address) == address
    assert re.fullmatch(r"[0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]", address)
    assert parse_address(f" {address.upper()}\n") == address


def inotify(data: bytes) -> None:
    """Events are as many as there is room for, and none is longer than what was read."""
    events = list(parse_events(data))
    assert len(events) <= len(data) // 16
    assert all(len(os.fsencode(event.name)) <= len(data) for event in events)


def uevents(data: bytes) -> None:
    """A netlink message is an event or none, and faults of an event are fit to be told."""
    event = parse_uevent(data)
    assert (event is None) == (b"@" not in data.split(b"\0")[0])
    if event is None:
        return
    assert list(event.fields) == sorted(dict(event.fields).items())
    assert parse_uevent(_message(event.fields)) == event
    about = address_of(event)
    assert about is None or parse_address(about) == about
    bound = bound_again(event, (GPU, PART))
    assert bound == ((GPU,) if bound else ())
    faults = wedged_faults(event, (GPU, PART))
    assert [fault.device for fault in faults] == ([GPU.id] if faults else [])
    assert all(is_line(fault.reason) and is_line(fault.code, 63) for fault in faults)


def _message(fields: tuple[tuple[str, str], ...]) -> bytes:
    return "\0".join(["add@/x", *(f"{key}={value}" for key, value in fields)]).encode()


def amd(data: bytes) -> None:
    """KFD's, amdgpu's and GIM's files."""
    text = text_of(data)
    properties = parse_properties(text)
    written = "\n".join(f"{key} {value}" for key, value in properties.items())
    assert parse_properties(written) == properties
    node = parse_node(1, properties)
    if node is not None:
        assert node.sits_at(f"{node.domain or 0:04x}:{node.bus:02x}:{node.slot:02x}.0")
        assert node.function < 8
        assert node.compute_units is not None
        assert is_line(node.gfx_version or "gfx", 30)
    link = parse_link(properties)
    assert link is None or (link.kind in (LinkKind.PCIE, LinkKind.XGMI) and link.peer >= 0)
    assert nearest_links([link, link] if link else []) == ((link,) if link else ())
    version = parse_gfx_version(properties.get("gfx_target_version", 0))
    assert version is None or version.startswith("gfx")
    unique = parse_unique_id(text)
    assert unique is None or (parse_unique_id(unique) == unique and len(unique) == 16)
    _amd_memory(text)


def _amd_memory(text: str) -> None:
    settings = amd_memory.parse_settings(text)
    written = "\n".join(f"{key} = {value:#x}" for key, value in settings.items() if value < 1 << 32)
    assert amd_memory.parse_settings(written).items() <= settings.items()
    size = amd_memory.parse_bar_bytes(text)
    assert size is None or 1 < size <= 1 << 64
    counted = parse_counter(text)
    assert counted is None or parse_counter("ue: {}\nce: {}".format(*counted)) == counted
    pages = parse_bad_pages(text)
    assert pages.keys() <= set("RPF")
    assert sum(pages.values()) <= len(text.splitlines())


def intel(data: bytes) -> None:
    """The `resource` file, debugfs and the answers of the DRM query."""
    text = text_of(data)
    for line in range(4):
        size = intel_memory.parse_bar_bytes(text, line)
        assert size is None or 1 < size <= 1 << 64
    vram = intel_memory.parse_vram_size(text)
    assert vram is None or intel_memory.parse_vram_size(f"  size: {vram}\n") == vram > 0
    for header in (8, 16):
        total = parse_regions(data, header)
        assert total is None or 0 < total <= (1 << 64) * (len(data) // 88)


def nvidia(data: bytes) -> None:
    """MIG's capability minors and nodes, vGPU types and profile names."""
    text = text_of(data)
    minors = parse_mig_minors(text)
    assert parse_mig_minors("\n".join(f"{key} {minors[key]}" for key in minors)) == minors
    node = parse_capability(text, 237)
    assert node is None or (node.minor < 1 << 20 and node.mode <= 0o777)
    types = parse_types(text)
    for kind, name in types.items():
        assert kind >= 0
        assert name == name.strip() != ""
        assert not re.search(r"\s", resource_of(name))
    suffix = suffix_of(text)
    assert suffix == "" or (suffix[0] in "+-" and is_line(suffix))
    for sort, path in parse_csv(text):
        assert path.startswith("/dev/") == (sort == "dev")
        assert is_line(path)
        assert ".." not in path.split("/")


BIND = (
    b"bind@/devices/pci0000:00/0000:04:00.1\0ACTION=bind\0SUBSYSTEM=pci\0"
    b"DEVPATH=/devices/pci0000:00/0000:04:00.1"
)
WEDGED = BIND.replace(b"pci\0", b"drm\0") + b"\0WEDGED=rebind,bus-reset"
EVENT_WORDS = (b"\0", b"=", b"@", b"ACTION=", b"SUBSYSTEM=drm", b"WEDGED=", b"\n", b"/", b"\x1b[1m")
PROPERTIES = (
    b"simd_count 416\nsimd_per_cu 4\ndrm_render_minor 128\nlocation_id 1280\ndomain 0\n"
    b"gfx_target_version 90402\nhive_id 5\nnum_xcc 8\nsize_in_bytes 1000\nnode_to 2\ntype 11"
)
REGION = b"\x01\0\0\0" + b"\0" * 4 + b"\x01\0\0\0\0\x10\0\0" + b"\0\0\0\0\1\0\0\0" + b"\0" * 72
SURFACES = {
    "numbers": Surface(
        target=numbers, seeds=(b"12", b"0x1F", b"card1 card0 card"), words=(*NUMBERS, b"card", b" ")
    ),
    "addresses": Surface(
        target=addresses,
        seeds=(b"0000:3a:00.0", b"00010000:3A:00.7"),
        words=(b"0000:", b"3a", b":", b".0", b" ", *NUMBERS),
    ),
    "inotify": Surface(
        target=inotify,
        seeds=(
            struct.pack("=iIII16s", 1, 0x100, 0, 16, b"kubelet.sock"),
            struct.pack("=iIII", -1, 0x4000, 0, 0),
        ),
        words=(b"\0" * 4, b"\x10\0\0\0", b"\xff" * 4),
    ),
    "uevents": Surface(target=uevents, seeds=(BIND, WEDGED, b"libudev\0"), words=EVENT_WORDS),
    "amd_texts": Surface(
        target=amd,
        seeds=(
            PROPERTIES,
            b"ue: 1\nce: 2",
            b"0x1 : 0x1000 : R\n0x2 : 0x1000 : F",
            b"total_vf_num = 8\npf.fb_size = 0x100",
            b"0x00 0xffff 0x0\n",
            b"0x1901ead3a2ecd4a6",
        ),
        words=(b"ue: ", b"ce: ", b" : ", b" = ", b"\n", b"hive_id ", b"\x85", b"\x1c", *NUMBERS),
    ),
    "intel_texts": Surface(
        target=intel,
        seeds=(b"0x0 0x0 0x0\n0x0 0xff 0x0\n0x00 0xffff 0x0", b"  size: 17163091968\n", REGION),
        words=(b"size: ", b"0x", b" ", b"\n", b"\xff\xff", *NUMBERS),
    ),
    "nvidia_texts": Surface(
        target=nvidia,
        seeds=(
            b"config 1\ngpu0/gi1/access 12",
            b"ID : vGPU Name\n1147 : NVIDIA L40S-1Q",
            b"MIG 1g.5gb+me",
            b"dev, /dev/nvmap\nlib, /usr/lib/libcuda.so.1\nsym, /etc/x\ndir, /lib/firmware",
        ),
        words=(
            b"dev, ",
            b"lib, /",
            b"/../",
            b"gpu0/gi1/access ",
            b" : ",
            b"gb+",
            b"\n",
            b"\x85",
            *NUMBERS,
        ),
    ),
}

"""HAMi-core in containers with slices of NVIDIA GPUs, as it wants to be mounted."""

from pathlib import Path

import pytest

from deviceplugin.enforcement.section import EnforcementSection, NvidiaLimits
from deviceplugin.errors import AllocationError
from deviceplugin.host import Host
from deviceplugin.model import Device, DeviceID, Mount, Share
from deviceplugin.vendor import Grant
from deviceplugin.vendors.nvidia import create
from deviceplugin.vendors.nvidia.limits import compute_limit, library_edits, slice_edits

GIB = 1 << 30
LIBRARY = "/usr/local/vgpu/libvgpu.so"
GPUS = [
    Device(id=DeviceID(f"GPU-{n}"), vendor="nvidia", pci_address=f"0000:4{n}:00.0") for n in (1, 2)
]


def slices(device: Device, size: int) -> Grant:
    share = Share(count=80, unit_bytes=GIB)
    return Grant(device=device, share=share, count=1, memory_bytes=size)


def test_library_preload_and_a_limit_for_each_gpu_are_in_the_container() -> None:
    found = library_edits(LIBRARY, [slices(GPUS[0], 8 * GIB), slices(GPUS[1], 4 * GIB)])
    assert dict(found.env) == {
        "CUDA_DEVICE_MEMORY_LIMIT_0": "8192m",
        "CUDA_DEVICE_MEMORY_LIMIT_1": "4096m",
        "CUDA_DEVICE_MEMORY_SHARED_CACHE": "/tmp/cudevshr.cache",  # of the container
    }
    assert found.mounts == (
        Mount(path="/usr/local/vgpu/libvgpu.so", host_path=LIBRARY),
        Mount(path="/etc/ld.so.preload", host_path="/usr/local/vgpu/ld.so.preload"),
    )
    assert all(mount.read_only for mount in found.mounts)


def test_replicas_have_no_amount_to_be_held_to() -> None:
    grant = Grant(device=GPUS[0], share=Share(count=4), count=1, memory_bytes=20 * GIB)
    assert not library_edits(LIBRARY, [grant]).mounts


def test_a_limit_of_zero_is_refused_because_it_would_be_none() -> None:
    with pytest.raises(AllocationError, match="it would be 0"):
        library_edits(LIBRARY, [slices(GPUS[0], 1 << 19)])


@pytest.mark.parametrize("library", [None, LIBRARY])
def test_it_is_there_only_where_the_administrator_brings_it(
    tmp_path: Path, library: str | None
) -> None:
    section = EnforcementSection(nvidia=NvidiaLimits(library=library))
    vendor = create(Host(tmp_path), {"enforcement": section})
    assert bool(vendor.share_edits([slices(GPUS[0], GIB)]).mounts) == (library is not None)


@pytest.mark.parametrize(
    ("method", "library", "variables"),
    [
        (
            "mps",
            None,
            {
                "CUDA_MPS_ACTIVE_THREAD_PERCENTAGE": "50",
                "CUDA_MPS_PINNED_DEVICE_MEM_LIMIT": "0=40960M",
            },
        ),
        (None, LIBRARY, {"CUDA_DEVICE_SM_LIMIT": "50"}),
        (None, None, {}),
    ],
    ids=["MPS", "HAMi-core", "neither"],
)
def test_a_part_of_the_compute_is_told_to_what_holds_programs_to_it(
    method: str | None, library: str | None, variables: dict[str, str]
) -> None:
    share = Share(count=4, unit_bytes=20 * GIB, method=method, compute_percent=25)
    grant = Grant(
        device=GPUS[0],
        share=share,
        count=2,
        memory_bytes=40 * GIB,
        percent=50,
        numbers=(0, 1),
    )
    assert dict(slice_edits(library, [grant]).env) == variables
    section = EnforcementSection(nvidia=NvidiaLimits(library=library))
    reason = compute_limit({"enforcement": section})(GPUS[0], share)
    assert bool(reason) == (not variables)


def test_slices_without_compute_are_told_none() -> None:
    assert not slice_edits(LIBRARY, [slices(GPUS[0], GIB)]).env

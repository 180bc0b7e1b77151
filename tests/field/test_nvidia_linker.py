"""The driver's files for containers: found on every layout of a host, and by an image's linker."""

import os
import platform
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from deviceplugin.host import Host
from deviceplugin.model import CdiSpec, Discovery, FaultClass
from deviceplugin.testing.tree import write_tree
from deviceplugin.vendors.nvidia.vendor import NvidiaVendor
from tests.fakes.compiled import compiler
from tests.fakes.nvml import NvmlDouble, Scenario, a100_40gb
from tests.vendors.nvidia.conftest import make_vendor

__all__ = ["make_vendor"]  # a fixture
MakeVendor = Callable[..., NvidiaVendor]
VERSION = "550.163.01"
SCENARIO = Scenario(gpus=(a100_40gb(0),))
CDI: dict[str, Any] = {"device_list_strategy": ["cdi-cri"]}
TRIPLE = f"{platform.machine()}-linux-gnu"
CURRENT = f"/usr/lib/{TRIPLE}/nvidia/current"
CUDA = f"libcuda.so.{VERSION}"
PLACES = ("/usr/lib64/libcuda.so.1", f"/usr/lib/{TRIPLE}/libcuda.so.1")


def nodes(root: Path) -> None:
    for name in ("nvidia0", "nvidiactl", "nvidia-uvm"):
        write_tree(root, f"/dev/{name} c 195:0")


def driver_at(root: Path, folder: str, *, cuda: bool = True, version: str = VERSION) -> None:
    """A driver with its libraries in one folder, and nothing else of a node but the nodes."""
    NvmlDouble(root, lib_dir=folder.lstrip("/"), scenario=SCENARIO)
    nodes(root)
    if cuda:
        write_tree(root, f"{folder}/libcuda.so.{version} = x")
        write_tree(root, f"{folder}/libcuda.so.1 -> libcuda.so.{version}")


def specified(vendor: NvidiaVendor) -> tuple[Discovery, CdiSpec]:
    found = vendor.discover()
    spec, *_ = vendor.cdi_specs(found.devices)  # GPUs; the others are of extras
    return found, spec


def inside(spec: CdiSpec) -> dict[str, str]:
    return {mount.path: mount.host_path for mount in spec.common.mounts}


def debian(root: Path, *, alternatives: bool) -> None:
    driver_at(root, CURRENT)
    write_tree(root, "/usr/bin/nvidia-smi = x")
    for name in ("libcuda.so.1", "libnvidia-ml.so.1"):
        write_tree(root, f"/usr/lib/{TRIPLE}/{name} -> /etc/alternatives/glx--{name}")
        if alternatives:
            write_tree(root, f"/etc/alternatives/glx--{name} -> {CURRENT}/{name}")


@pytest.mark.parametrize("alternatives", [True, False], ids=["with-etc", "without-etc"])
def test_debians_driver_behind_alternatives_is_found(
    tmp_path: Path, make_vendor: MakeVendor, *, alternatives: bool
) -> None:
    debian(tmp_path, alternatives=alternatives)
    found, spec = specified(make_vendor(nvidia=CDI))
    assert found.faults == ()
    for place in PLACES:
        assert inside(spec)[place] == f"{CURRENT}/{CUDA}"
    assert inside(spec)["/usr/bin/nvidia-smi"] == "/usr/bin/nvidia-smi"


@pytest.mark.parametrize(
    "folder",
    [
        "/usr/lib64",
        "/usr/lib",
        "/lib64",
        f"/usr/lib/{TRIPLE}",
        f"/usr/lib/{TRIPLE}/nvidia/tesla",
        "/usr/lib64/nvidia",
        "/usr/lib/nvidia-550",
        "/run/opengl-driver/lib",
        "/usr/local/glibc/usr/lib",
        "/opt/strange",
    ],
)
def test_an_image_of_either_layout_finds_the_driver_of_any_host(
    tmp_path: Path, make_vendor: MakeVendor, folder: str
) -> None:
    driver_at(tmp_path, folder)
    section = {**CDI, "driver_library_dirs": ["/opt/strange"]}
    found, spec = specified(make_vendor(nvidia=section))
    assert found.faults == ()
    for place in PLACES:
        assert inside(spec)[place] == f"{folder}/{CUDA}"


def test_a_driver_in_a_folder_of_its_own_is_found_by_the_links_to_it(
    tmp_path: Path, make_vendor: MakeVendor
) -> None:
    """As on a machine with an H200: links in /usr/lib, and wrappers in /usr/bin."""
    driver_at(tmp_path, "/opt/driver/lib64")
    for name in ("libcuda.so.1", "libnvidia-ml.so.1"):
        write_tree(tmp_path, f"/usr/lib/{name} -> /opt/driver/lib64/{name}")
    found, spec = specified(make_vendor(nvidia=CDI))
    assert found.faults == ()
    for place in PLACES:
        assert inside(spec)[place] == f"/opt/driver/lib64/{CUDA}"


def test_a_program_that_is_a_script_of_the_host_gives_way_to_the_program_proper(
    tmp_path: Path, make_vendor: MakeVendor
) -> None:
    driver_at(tmp_path, "/usr/local/nvidia/lib64")
    write_tree(tmp_path, "/usr/bin/nvidia-smi = #!/bin/sh\\nexec /usr/local/nvidia/bin/nvidia-smi")
    write_tree(tmp_path, "/usr/bin/nvidia-debugdump = #!/bin/sh")
    write_tree(tmp_path, "/usr/local/nvidia/bin/nvidia-smi = x")
    _, spec = specified(make_vendor(nvidia=CDI))
    assert inside(spec)["/usr/bin/nvidia-smi"] == "/usr/local/nvidia/bin/nvidia-smi"
    assert "/usr/bin/nvidia-debugdump" not in inside(spec)


def test_without_libcuda_the_device_is_withdrawn_with_version_and_folders(
    tmp_path: Path, make_vendor: MakeVendor
) -> None:
    driver_at(tmp_path, "/usr/lib64", cuda=False)
    write_tree(tmp_path, "/usr/bin/nvidia-smi = x")
    found, _ = specified(make_vendor(nvidia=CDI))
    (fault,) = found.faults
    assert (fault.code, fault.kind) == ("driver_files_missing", FaultClass.SETUP)
    assert VERSION in fault.reason
    assert "/usr/lib64" in fault.reason
    assert make_vendor().discover().faults == ()


def test_a_libcuda_of_another_version_is_named_and_not_taken(
    tmp_path: Path, make_vendor: MakeVendor
) -> None:
    driver_at(tmp_path, "/usr/lib64", version="535.54.03")
    found, spec = specified(make_vendor(nvidia=CDI))
    assert "libcuda.so.535.54.03 is there" in found.faults[0].reason
    assert not any("libcuda" in path for path in inside(spec))


def test_a_link_that_leads_out_of_sight_is_named(tmp_path: Path, make_vendor: MakeVendor) -> None:
    driver_at(tmp_path, "/usr/lib64", cuda=False)
    write_tree(tmp_path, f"/usr/lib64/libcuda.so.1 -> /nix/store/abc/{CUDA}")
    found, _ = specified(make_vendor(nvidia=CDI))
    assert f"leads to /nix/store/abc/{CUDA}, which is not to be seen" in found.faults[0].reason


def test_links_stay_below_the_hosts_root(tmp_path: Path, make_vendor: MakeVendor) -> None:
    root = tmp_path / "outside"
    driver_at(tmp_path, "/usr/lib64", cuda=False)
    root.mkdir()
    (root / CUDA).write_text("x")
    write_tree(tmp_path, f"/usr/lib64/{CUDA} -> {root}/{CUDA}")
    found, _ = specified(make_vendor(nvidia=CDI))
    assert [fault.code for fault in found.faults] == ["driver_files_missing"]


def test_libraries_for_32_bit_programs_are_left_out(
    tmp_path: Path, make_vendor: MakeVendor
) -> None:
    driver_at(tmp_path, "/usr/lib64")
    (tmp_path / "usr/lib").mkdir(exist_ok=True)
    (tmp_path / "usr/lib" / f"libnvidia-only.so.{VERSION}").write_bytes(b"\x7fELF\x01rest")
    _, spec = specified(make_vendor(nvidia=CDI))
    assert not any("only" in path for path in inside(spec))


def test_libraries_that_come_later_change_the_devices_so_that_the_file_is_written_again(
    tmp_path: Path, make_vendor: MakeVendor
) -> None:
    driver_at(tmp_path, "/usr/lib64", cuda=False)
    vendor = make_vendor(nvidia=CDI)
    before, _ = specified(vendor)
    driver_at(tmp_path, "/usr/lib64")
    assert not vendor.unchanged()
    between, _ = specified(vendor)
    write_tree(tmp_path, f"/usr/lib64/libnvidia-ptxjitcompiler.so.{VERSION} = x")
    assert not vendor.unchanged()
    after, spec = specified(vendor)
    assert (between.faults, after.faults) == ((), ())
    assert before.devices != between.devices != after.devices
    assert f"/usr/lib64/libnvidia-ptxjitcompiler.so.{VERSION}" in inside(spec)


@pytest.mark.parametrize("folder", ["/usr/lib64", f"/usr/lib/{TRIPLE}", CURRENT])
@pytest.mark.parametrize(
    "program", ["/usr/bin/nvidia-cdi-hook", "/usr/local/nvidia/toolkit/nvidia-ctk"]
)
def test_a_hook_that_is_on_the_host_is_used(
    tmp_path: Path, make_vendor: MakeVendor, folder: str, program: str
) -> None:
    driver_at(tmp_path, folder)
    write_tree(tmp_path, f"{program} = x")
    _, spec = specified(make_vendor(nvidia=CDI))
    (hook,) = spec.common.hooks
    assert hook.path == program
    ((name, where),) = [
        (m.path, m.path.rpartition("/")[0])
        for m in spec.common.mounts
        if m.path.endswith("libcuda.so.1")
    ]
    assert hook.args[-2:] == ("--folder", where)
    assert name in PLACES
    _, without = specified(make_vendor(nvidia={**CDI, "cdi_hook_path": ""}))
    assert without.common.hooks == ()
    assert set(PLACES) <= inside(without).keys()


# -- a real linker -------------------------------------------------------------------------------

PROGRAM = """
#include <dlfcn.h>
#include <stdio.h>
int main(void) {
    if (dlopen("libcuda.so.1", RTLD_NOW)) return 0;
    puts(dlerror());
    return 1;
}
"""
SYSTEM = Path("/lib") / TRIPLE
LOADER = Path("/lib64/ld-linux-x86-64.so.2")
needs_linker = pytest.mark.skipif(
    os.geteuid() != 0 or not LOADER.exists() or not (SYSTEM / "libc.so.6").exists(),
    reason="a chroot needs root, and the linker of a Debian on x86-64",
)


def image(root: Path, layout: str, program: Path) -> None:
    """An image with a linker and libc alone. Debian's linker looks in /lib/<triple> and
    /usr/lib/<triple>; that of Red Hat is the same one with its own folders in their place."""
    loader = LOADER.resolve().read_bytes()
    folder = root / f"usr/lib/{TRIPLE}"
    if layout == "lib64":
        folder = root / "usr/lib64"
        for old, new in ((f"/usr/lib/{TRIPLE}/", "/usr/lib64"), (f"/lib/{TRIPLE}/", "/lib64")):
            loader = loader.replace(
                b"\0" + old.encode() + b"\0", b"\0" + new.encode().ljust(len(old), b"/") + b"\0"
            )
            loader = loader.replace(
                old.encode() + b"\0", new.encode().ljust(len(old), b"/") + b"\0"
            )
    folder.mkdir(parents=True)
    (root / "lib64").mkdir(exist_ok=True)
    (root / "lib64" / LOADER.name).write_bytes(loader)
    (root / "lib64" / LOADER.name).chmod(0o755)
    shutil.copy(SYSTEM / "libc.so.6", folder)
    shutil.copy(program, root / "probe")


def runs(root: Path) -> str:
    """What the program says in the chroot; nothing where it has found the library."""
    # By a program: after a fork of this process gRPC's own handlers would run first.
    command = [shutil.which("chroot") or "/usr/sbin/chroot", str(root), "/probe"]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    return f"{done.stdout}{done.stderr}"


@pytest.mark.slow
@needs_linker
@pytest.mark.parametrize("layout", ["multiarch", "lib64"])
@pytest.mark.parametrize("host", ["/usr/lib64", f"/usr/lib/{TRIPLE}", CURRENT])
def test_the_linker_of_the_image_finds_libcuda(
    tmp_path: Path, make_vendor: MakeVendor, host: str, layout: str
) -> None:
    driver_at(tmp_path, host)
    _, spec = specified(make_vendor(nvidia=CDI))
    source, program, library = (tmp_path / name for name in ("p.c", "probe", "libcuda.so"))
    source.write_text(PROGRAM)
    subprocess.run([*compiler(), str(source), "-o", str(program), "-ldl"], check=True)
    empty = tmp_path / "empty.c"
    empty.write_text("int cuInit(unsigned flags) { return (int)flags; }\n")
    subprocess.run([*compiler(), "-shared", "-fPIC", str(empty), "-o", str(library)], check=True)
    root = tmp_path / "image"
    image(root, layout, program)
    assert "libcuda.so.1: cannot open shared object file" in runs(root)
    for mount in spec.common.mounts:
        if "libcuda" in mount.path:
            place = root / mount.path.lstrip("/")
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(library, place)
    assert runs(root) == ""


@pytest.mark.slow
@needs_linker
@pytest.mark.parametrize("layout", ["multiarch", "lib64"])
def test_one_folder_alone_would_not_do(tmp_path: Path, layout: str) -> None:
    source, program = tmp_path / "p.c", tmp_path / "probe"
    source.write_text(PROGRAM)
    subprocess.run([*compiler(), str(source), "-o", str(program), "-ldl"], check=True)
    root = tmp_path / "image"
    image(root, layout, program)
    other = root / ("usr/lib64" if layout == "multiarch" else f"usr/lib/{TRIPLE}")
    other.mkdir(parents=True)
    shutil.copy(SYSTEM / "libc.so.6", other / "libcuda.so.1")
    assert "libcuda.so.1: cannot open shared object file" in runs(root)


@pytest.mark.parametrize("root", ["/run/nvidia/driver", "/opt/driver/rootfs/"])
def test_absolute_links_of_a_driver_container_begin_at_its_own_root(
    tmp_path: Path, make_vendor: MakeVendor, root: str
) -> None:
    inner = root.rstrip("/")
    debian(tmp_path / inner[1:], alternatives=True)
    write_tree(tmp_path, f"{inner}/usr/bin/nvidia-smi -> /opt/bin/../bin/nvidia-smi")
    write_tree(tmp_path, f"{inner}/opt/bin/nvidia-smi = x")
    found, spec = specified(make_vendor(nvidia=CDI | {"driver_root": root}))
    assert found.faults == ()
    for place in PLACES:
        assert inside(spec)[place] == f"{inner}{CURRENT}/{CUDA}"
    assert inside(spec)["/usr/bin/nvidia-smi"] == f"{inner}/opt/bin/nvidia-smi"


def test_a_driver_root_that_is_a_folder_of_the_host_may_have_links_of_the_host(
    tmp_path: Path, make_vendor: MakeVendor
) -> None:
    root = "/home/kubernetes/bin/nvidia"
    driver_at(tmp_path, "/opt/driver")
    for name in ("libcuda.so.1", "libnvidia-ml.so.1", CUDA):
        write_tree(tmp_path, f"{root}/lib64/{name} -> /opt/driver/{name}")
    found, spec = specified(make_vendor(nvidia=CDI | {"driver_root": root}))
    assert found.faults == ()
    assert inside(spec)[PLACES[0]] == f"/opt/driver/{CUDA}"


def test_links_that_climb_stay_in_the_root(tmp_path: Path) -> None:
    host = Host(tmp_path)
    write_tree(tmp_path, "/run/driver/a -> ../../../../etc/b\n/run/driver/etc/b = x\n/etc/b = y")
    assert host.read_real_path("/run/driver/a", "/run/driver") == "/run/driver/etc/b"
    assert host.read_real_path("/run/driver/a") == "/etc/b"
    assert host.read_real_path("/etc/b", "/run/driver") == "/etc/b"
    write_tree(tmp_path, "/run/link -> driver")
    assert host.read_real_path("/run/link/a", "/run/link") == "/run/driver/etc/b"
    assert host.read_real_path("/run/none/a", "/run/none") is None

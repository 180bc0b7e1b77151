"""Files that vanish or fail between listing and reading: each read of a look in turn."""

import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec import Struct
from msgspec.structs import replace

from deviceplugin.testing.amd import MI210, MI300X, SimulatedGpu, write_amd_node
from deviceplugin.testing.intel import B60, write_intel_node
from tests.fakes.nvml import write_host_tree
from tests.fakes.syscalls import Call, Faults, Point
from tests.faults.node import AMD, INTEL, Node
from tests.faults.recovery import Recovering
from tests.rig import WAIT_S, environment, two_a100

ONE_CALL, FROM_THEN_ON = 1, 0xFFFFFFFF
ERRORS = [errno.ENOENT, errno.ENODEV, errno.EIO]


def amd(root: Path) -> None:
    whole = SimulatedGpu(address="0000:05:00.0", model=MI210, unique_id="5b1c7e02d4a86f05")
    cut = SimulatedGpu(
        address="0000:27:00.0", model=MI300X, unique_id="e3aa140f9a5f9e31", mode="DPX"
    )
    write_amd_node(root, (whole, cut))


def intel(root: Path) -> None:
    write_intel_node(
        root, B60, replace(B60, address="0000:b4:00.0", card=60, render=190, group=300)
    )


def nvidia(root: Path) -> None:
    double = two_a100(root)
    double.set_mig(1, ["3g.20gb", "1g.5gb"])
    write_host_tree(root, double.scenario)


VENDORS = {"amd": amd, "intel": intel, "nvidia": nvidia}

PULLED = {"amd": "0000:27:00.0", "intel": "0000:b4:00.0"}
# What all GPUs of a vendor depend on: then none is offered rather than a wrong one. A GPU with
# vGPUs for virtual machines, for one, would look whole.
OF_THE_NODE = (
    "/bus/pci/devices",
    "/topology/nodes",
    "/bus/mdev/devices",
    "/nvidia/current_vgpu_type",
)


class Looks(Struct, frozen=True):
    """What was listed of the whole node, and for each read that was hurt."""

    whole: dict[str, Any]
    hurt: list[dict[str, Any]]
    stderr: str


@pytest.fixture
def look(short_dir: Path) -> Callable[..., Looks]:
    def run(vendor: str, error: int, times: int, below: str = "") -> Looks:
        root = short_dir / "host"
        root.mkdir()
        VENDORS[vendor](root)
        faults = Faults(short_dir / "faults")
        words = (vendor, root, short_dir / "faults", error, f"{root}{below or '/sys'}", times)
        done = subprocess.run(
            [sys.executable, "-m", "tests.faults.looks", *map(str, words)],
            env=environment() | faults.environment,
            capture_output=True,
            text=True,
            timeout=4 * WAIT_S,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-3000:]
        first, *lines = map(json.loads, done.stdout.splitlines())
        return Looks(first["whole"], lines, done.stderr)

    return run


def offered(listed: dict[str, Any]) -> dict[str, Any]:
    return {name: entry for name, entry in listed.items() if entry["health"] == "Healthy"}


def lost_gpus(whole: dict[str, Any], listed: dict[str, Any]) -> set[str]:
    return {whole[name]["gpu"] for name in whole.keys() - offered(listed).keys()}


@pytest.mark.parametrize("error", ERRORS, ids=errno.errorcode.get)
@pytest.mark.parametrize("vendor", VENDORS)
def test_a_file_that_vanishes_or_fails_costs_no_more_than_its_gpu(
    look: Callable[..., Looks], vendor: str, error: int
) -> None:
    looks = look(vendor, error, ONE_CALL)
    assert len(looks.hurt) > 20  # NVIDIA's look makes the fewest calls: an attribute is one read
    for line in looks.hurt:
        for listed in line["hurt"]:
            assert offered(listed).items() <= looks.whole.items(), line["where"]
            lost = lost_gpus(looks.whole, listed)
            assert len(lost) <= 1 or line["where"].endswith(OF_THE_NODE), (line["where"], lost)
        assert line["healed"] == [looks.whole] * 2, line["where"]
    assert "vendor_raised" not in looks.stderr


@pytest.mark.parametrize("vendor", PULLED)
def test_a_gpu_that_is_pulled_during_a_look_costs_itself_alone(
    look: Callable[..., Looks], vendor: str
) -> None:
    address = PULLED[vendor]
    looks = look(vendor, errno.ENOENT, FROM_THEN_ON, f"/sys/bus/pci/devices/{address}")
    assert len(looks.hurt) > 10
    for line in looks.hurt:
        for listed in line["hurt"]:
            assert offered(listed).items() <= looks.whole.items(), line["where"]
            assert lost_gpus(looks.whole, listed) <= {address}, line["where"]
        assert line["healed"] == [looks.whole] * 2, line["where"]
    assert "vendor_raised" not in looks.stderr


async def test_a_read_that_blocks_costs_its_vendor_until_it_returns(
    node: Node, recovering: Recovering
) -> None:
    await node.up()
    node.faults.hang(Point(Call.READ, f"{node.rig.host_root}/sys/devices", 0, 1))
    await node.rig.stub.wait_for(lambda: 0 in node.rig.stub.allocatable().values(), WAIT_S)
    left = [name for name, count in node.rig.stub.allocatable().items() if count]
    assert len(left) == 1
    await node.rig.one_of_each(left)
    node.faults.clear()
    with recovering("a read that blocked"):
        await node.right()


def write_ten_megabytes(path: Path) -> None:
    path.write_bytes(b"1" * 10_000_000)


@pytest.mark.parametrize("file", ["vendor", "unique_id"])
@pytest.mark.parametrize("spoil", [os.mkfifo, write_ten_megabytes])
async def test_a_file_that_is_none_costs_its_gpu(
    node: Node, file: str, spoil: Callable[[Path], None], recovering: Recovering
) -> None:
    path = node.rig.host_root / f"sys/bus/pci/devices/0000:27:00.0/{file}"
    kept = path.read_text()
    path.unlink()
    spoil(path)
    await node.rig.stub.start()
    node.start()
    await node.rig.allocatable({AMD: 1, INTEL: 1})
    path.unlink()
    with recovering(f"{spoil.__name__} in place of a file in sysfs"):
        path.write_text(kept)
        await node.right()

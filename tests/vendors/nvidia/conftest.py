"""The NVIDIA vendor in this process, with the real pynvml over the C double."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from deviceplugin.config.schema import decode_sections
from deviceplugin.host import Host
from deviceplugin.vendors import nvidia
from deviceplugin.vendors.nvidia.vendor import NvidiaVendor
from tests.fakes.nvml import NvmlDouble, Scenario, a100_40gb, write_host_tree
from tests.vendors.nvidia.health_machine import Machine, machine_at

MakeVendor = Callable[..., NvidiaVendor]


@pytest.fixture
def node(tmp_path: Path) -> NvmlDouble:
    """Four A100, of which GPU 3 is cut into MIG instances."""
    double = NvmlDouble(tmp_path, scenario=Scenario(gpus=tuple(map(a100_40gb, range(4)))))
    double.set_mig(3, ["3g.20gb", "1g.5gb", "1g.5gb+me"])
    write_host_tree(tmp_path, double.scenario)
    return double


@pytest.fixture
def make_vendor(tmp_path: Path) -> Iterator[MakeVendor]:
    """Make vendors for the tree with sections as in a file; sessions are closed afterwards."""
    made: list[NvidiaVendor] = []

    def make(**sections: Any) -> NvidiaVendor:
        vendor = nvidia.create(Host(tmp_path), decode_sections(sections, nvidia.SECTIONS))
        made.append(vendor)
        return vendor

    yield make
    for vendor in made:
        vendor.close()


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    """Two A100 whose health is watched."""
    machine = machine_at(tmp_path)
    yield machine
    machine.vendor.close()

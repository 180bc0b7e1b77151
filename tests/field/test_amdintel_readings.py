"""Readings of PCIe links and sensors that cannot be taken as they stand."""

from pathlib import Path

import pytest

from deviceplugin.host import Host
from deviceplugin.host.pci_faults import standing_faults
from deviceplugin.host.readings import read_hardware
from deviceplugin.model import Device, DeviceID
from deviceplugin.testing.tree import write_tree

A, B, C, G = "0000:00:01.0", "0000:01:00.0", "0000:02:00.0", "0000:03:00.0"
ROOT = "/sys/devices/pci0000:00"


def chain(*steps: tuple[str, int | None, int | None]) -> str:
    """Functions one below the other, from the root port to the GPU: address, lanes, most lanes."""
    text, path = "", ROOT
    for address, width, most in steps:
        path = f"{path}/{address}"
        text += f"{path}/vendor = 0x1002\n"
        text += "" if width is None else f"{path}/current_link_width = {width}\n"
        text += "" if most is None else f"{path}/max_link_width = {most}\n"
        text += f"/sys/bus/pci/devices/{address} -> ../../..{path.removeprefix('/sys')}\n"
    return text


def reasons(root: Path, address: str = G) -> list[str]:
    device = Device(id=DeviceID("gpu"), vendor="amd", pci_address=address)
    return [f.reason for f in standing_faults(device, read_hardware(Host(root), address))]


@pytest.mark.parametrize(
    ("steps", "told"),
    [
        pytest.param(
            [(A, 8, 16), (B, 8, 16), (C, 16, 16), (G, 16, 16)],
            [f"the PCIe link has 8 of 16 lanes at {B}"],
            id="the slot's link is behind the card's own switch",
        ),
        pytest.param(
            [(A, 4, 4), (B, 4, 16), (C, 16, 16), (G, 16, 16)], [], id="a slot of four lanes"
        ),
        pytest.param([(A, 4, 4), (G, 4, 16)], [], id="a narrow slot, no switch"),
        pytest.param(
            [(A, 4, 8), (G, 4, 16)],
            [f"the PCIe link has 4 of 8 lanes at {G}"],
            id="half of what the slot has",
        ),
        pytest.param([(A, 8, 16), (G, 8, 8)], [], id="a card of eight lanes in a wide slot"),
        pytest.param(
            [(A, 16, 16), (B, 16, 16), (C, 8, 16), (G, 8, 8)], [], id="the same below a switch"
        ),
        pytest.param(
            [(A, 8, 16), (B, 8, 16), (C, 4, 16), (G, 4, 16)],
            [f"the PCIe link has 4 of 16 lanes at {G}"],
            id="of several the narrowest",
        ),
        pytest.param(
            [("0000:00:0e.0", None, None), (A, 8, 16), (G, 8, 16)],
            [f"the PCIe link has 8 of 16 lanes at {G}"],
            id="below a bridge without a link (VMD)",
        ),
        pytest.param([(A, None, None), (G, 1, 1)], [], id="a link on the board itself (Arc)"),
        pytest.param([(A, 0, 16), (G, 0, 16)], [], id="no link at all is another fault"),
        pytest.param(
            [(G, 8, 16)], [f"the PCIe link has 8 of 16 lanes at {G}"], id="no bridge is shown"
        ),
    ],
)
def test_lanes_are_judged_by_the_narrowest_link_and_what_its_ends_have(
    tmp_path: Path, steps: list[tuple[str, int | None, int | None]], told: list[str]
) -> None:
    write_tree(tmp_path, chain(*steps))
    assert reasons(tmp_path) == told


SENSOR = f"/sys/bus/pci/devices/{G}/hwmon/hwmon1/temp1"


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        ({"input": 60000, "crit": 0}, []),
        ({"input": 60000, "crit": -273150}, []),
        ({"input": 60000, "emergency": 24000}, []),
        ({"input": 60000, "crit": 1000, "emergency": 105000}, []),
        ({"input": 101000, "crit": 105000, "emergency": 100000}, []),
        ({"input": 140000, "crit": 65535000}, []),
        ({"input": 255000, "crit": 100000}, []),
        ({"input": 101000, "crit": 100000, "emergency": 105000}, ["critical"]),
        ({"input": 106000, "crit": 0, "emergency": 105000}, ["emergency"]),
        ({"input": 101000, "crit": 100000, "emergency": 100000}, ["emergency"]),
        ({"input": 85000, "crit": 85000}, ["critical"]),
        ({"input": -5000, "crit": 85000}, []),
    ],
)
def test_a_limit_that_cannot_be_one_is_none(
    tmp_path: Path, lines: dict[str, int], told: list[str]
) -> None:
    write_tree(tmp_path, "\n".join(f"{SENSOR}_{name} = {value}" for name, value in lines.items()))
    assert reasons(tmp_path) == [f"sensor temp1 is over its {limit} limit" for limit in told]

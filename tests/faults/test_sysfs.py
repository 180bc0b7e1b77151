"""Files that vanish or fail between listing and reading: each read of a look, one after the other."""

import asyncio
import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from deviceplugin.testing.amd import MI300X, MI210, SimulatedGpu, write_amd_node
from deviceplugin.testing.intel import B60, write_intel_node
from tests.fakes.nvml import NvmlDouble, Scenario, a100_40gb, write_host_tree
from tests.fakes.syscalls import Faults
from tests.rig import environment

ONE_CALL, FROM_THEN_ON = 1, 0xFFFFFFFF
ERRORS = [errno.ENOENT, errno.ENODEV, errno.EIO]


def amd(root: Path) -> None:
    whole = SimulatedGpu(address="0000:05:00.0", model=MI210, unique_id="5b1c7e02d4a86f05")
    cut = SimulatedGpu(
        address="0000:27:00.0", model=MI300X, unique_id="e3aa140f9a5f9e31", mode="DPX"
    )
    write_amd_node(root, (whole, cut))


def intel(root: Path) -> None:
    write_intel_node(root, B60)


def nvidia(root: Path) -> None:
    double = NvmlDouble(root, scenario=Scenario(gpus=(a100_40gb(0), a100_40gb(1))))
    double.set_mig(1, ["3g.20gb", "1g.5gb"])
    write_host_tree(root, double.scenario)


VENDORS = {"amd": amd, "intel": intel, "nvidia": nvidia}


@dataclass(frozen=True)
class Looks:
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
            timeout=110,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-3000:]
        first, *lines = (json.loads(line) for line in done.stdout.splitlines() if line[0] == "{" and "event" not in line[:20])
        return Looks(first["whole"], lines, done.stderr)

    return run


def offered(listed: dict[str, Any]) -> dict[str, Any]:
    return {name: entry for name, entry in listed.items() if entry["health"] == "Healthy"}


@pytest.mark.parametrize("error", ERRORS, ids=errno.errorcode.get)
@pytest.mark.parametrize("vendor", VENDORS)
def test_a_file_that_vanishes_or_fails_costs_at_most_its_own_device(
    look: Callable[..., Looks], vendor: str, error: int
) -> None:
    looks = look(vendor, error, ONE_CALL)
    print(len(looks.hurt))
    wrong = []
    for line in looks.hurt:
        for kind, listed in zip(("first", "later"), line["hurt"], strict=True):
            for name, entry in offered(listed).items():
                if name not in looks.whole: wrong.append((kind, line["where"], "invented", name))
                elif entry != looks.whole[name]: wrong.append((kind, line["where"], "differs", name, entry, looks.whole[name]))
            if len(offered(listed)) < len(looks.whole)-1: wrong.append((kind, line["where"], "costs", len(offered(listed)), len(looks.whole)))
        for healed in line["healed"]:
            if healed != looks.whole: wrong.append((line["where"], "not healed"))
    for w in wrong: print(w)
    print([l for l in looks.stderr.splitlines() if "vendor_raised" in l][:3])
    assert not wrong
    assert "vendor_raised" not in looks.stderr

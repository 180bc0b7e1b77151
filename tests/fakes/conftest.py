"""Four A100 under a temporary root, and a process that speaks pynvml to them."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.nvml import NvmlDouble, Scenario, a100_40gb
from tests.fakes.nvml_probe import Probe, probing


@pytest.fixture
def double(tmp_path: Path) -> NvmlDouble:
    return NvmlDouble(tmp_path, scenario=Scenario(gpus=tuple(map(a100_40gb, range(4)))))


@pytest.fixture
def probe(double: NvmlDouble) -> Iterator[Probe]:
    with probing(double.library) as probe:
        assert probe("Init()") == "None"
        assert probe("h = DeviceGetHandleByIndex(3)") == "None"
        yield probe

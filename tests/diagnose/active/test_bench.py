"""A GPU under test is looked at; what starts on it is bounded."""

import asyncio
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from deviceplugin.diagnose.active import process
from deviceplugin.diagnose.active.bench import GpuBench, Watch, Way, limit_of
from deviceplugin.diagnose.active.driver import find_driver, variables_for
from deviceplugin.diagnose.active.process import HangsError, OutputError, Runner
from deviceplugin.diagnose.active.tools import Said, Target, Tool, ToolTest
from deviceplugin.diagnose.active.values import Wish
from deviceplugin.discovery.probe import Prober
from deviceplugin.host import Host
from deviceplugin.model import ContainerEdits, Device, DeviceID, Discovery
from deviceplugin.telemetry.counts import SampleCounts
from deviceplugin.telemetry.sampler import Sampler
from deviceplugin.vendor import DeviceProcess, Measured, Sample
from tests.rig import WAIT_S

pytestmark = pytest.mark.slow  # most start a process
GPU = Device(id=DeviceID("GPU-0"), vendor="acme", pci_address="0000:07:00.0")
HEAT = Wish(test="thermal_test", seconds=600.0, threshold=85.0)


def measured(metric: str, value: float, device: str = "GPU-0") -> Measured:
    labels = (("sensor", "gpu"),) if metric.startswith("temperature_c") else ()
    return Measured(metric=metric, device=DeviceID(device), value=value, labels=labels)


class Acme:
    """A vendor that tells temperature and processes."""

    name = "acme"

    def __init__(self, celsius: float | None = 60.0, pids: Sequence[int] = ()) -> None:
        self.celsius, self.pids = celsius, list(pids)

    def discover(self) -> Discovery:
        return Discovery(devices=(GPU,))

    def container_edits(self, _: Sequence[Device]) -> ContainerEdits:
        return ContainerEdits()

    def sample(self, _: Sequence[Device]) -> Sample:
        told = () if self.celsius is None else (measured("temperature_celsius", self.celsius),)
        return Sample(measured=told)

    def processes(self, _: Sequence[Device]) -> Sequence[DeviceProcess]:
        return [DeviceProcess(device=GPU.id, pid=pid, memory_bytes=None) for pid in self.pids]


def bench_of(vendor: Any, code: str = "print('done')") -> GpuBench:
    """Whose tool is a program of Python, and says that the GPU is well."""
    command = (sys.executable, "-S", "-c", code)
    test = ToolTest(lambda *_: command, lambda text: Said(passed=True) if "done" in text else None)
    tool = Tool(name="acme-test", path="", tests={HEAT.test: test})
    way = Way(target=Target(), tools=(tool,), lacking="needs acme-test")
    sampler = Sampler(vendor, SampleCounts(), WAIT_S)
    bench = GpuBench(sampler, Prober(vendor, WAIT_S), Runner(), lambda _: way)
    bench.look_s = 0.01
    return bench


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ([("temperature_celsius", 99.0)], ""),
        ([("temperature_celsius", 100.0)], "stopped at 100 °C"),
        ([("temperature_celsius", 90.0), ("temperature_limit_celsius", 90.0)], "stopped at 90"),
        ([("power_watts", 700.0), ("power_limit_watts", 700.0)], ""),
        ([("power_watts", 800.0)], ""),
        ([], ""),
    ],
)
def test_a_gpu_that_is_too_hot_is_let_off(values: list[tuple[str, float]], why: str) -> None:
    found = Watch().look([measured(*one) for one in values], GPU.id)
    assert found.startswith(why) if why else found == ""


def test_too_much_power_ends_a_test_when_it_is_seen_three_times_in_a_row() -> None:
    over = [measured("power_watts", 800.0), measured("power_limit_watts", 700.0)]
    watch = Watch()
    assert [watch.look(one, GPU.id) for one in (over, over, [], over, over)] == [""] * 5
    assert watch.look(over, GPU.id) == "stopped at 800 W"


def test_another_gpus_heat_is_not_its_own() -> None:
    watch = Watch()
    assert watch.look([measured("temperature_celsius", 120.0, "GPU-1")], GPU.id) == ""
    assert watch.hottest is None
    assert limit_of([measured("temperature_limit_celsius", 0.0)]) == 100.0


async def test_the_hottest_is_the_value_of_the_thermal_test() -> None:
    outcome = await bench_of(Acme(71.0)).run(GPU, HEAT)
    assert (outcome.value, outcome.said, outcome.tool) == (71.0, True, "acme-test")


async def test_a_gpu_without_a_temperature_is_not_judged_by_it() -> None:
    outcome = await bench_of(Acme(None)).run(GPU, HEAT)
    assert (outcome.value, outcome.problem) == (None, "it tells no temperature")


async def test_what_heats_too_much_is_killed() -> None:
    async with asyncio.timeout(WAIT_S):
        outcome = await bench_of(Acme(105.0), "import signal; signal.pause()").run(GPU, HEAT)
    assert (outcome.problem, outcome.stopped) == ("stopped at 105 °C", True)


async def test_a_tool_without_a_verdict_is_no_finding_about_the_gpu() -> None:
    outcome = await bench_of(Acme(), "import sys; sys.exit(3)").run(GPU, HEAT)
    assert outcome.problem == "acme-test ended with status 3 and no verdict"
    assert not outcome.broken


async def test_without_a_tool_or_driver_it_is_said_what_is_lacking() -> None:
    outcome = await bench_of(Acme()).run(GPU, Wish(test="memory_test", seconds=1, threshold=1))
    assert outcome.problem == "needs acme-test"


async def test_processes_keep_a_gpu_from_tests() -> None:
    assert await bench_of(Acme()).busy(GPU) == ""
    assert await bench_of(Acme(pids=[7, 12])).busy(GPU) == "it is used by process 7, 12: not tested"


class Gone(Acme):
    """Its process ends when it is looked at again."""

    def processes(self, devices: Sequence[Device]) -> Sequence[DeviceProcess]:
        found = super().processes(devices)
        self.pids.clear()
        return found


async def test_a_process_that_is_just_ending_is_waited_for() -> None:
    assert await bench_of(Gone(pids=[7])).busy(GPU) == ""


async def test_a_vendor_that_tells_no_processes_has_no_tests() -> None:
    acme = Acme()
    silent = type("Silent", (), {"name": "acme", "discover": acme.discover})()
    assert "does not tell which processes" in await bench_of(silent).busy(GPU)


@pytest.mark.parametrize(
    ("code", "error", "text"),
    [
        ("import signal; signal.pause()", HangsError, "did not end within"),
        ("while True: print('x' * 100000)", OutputError, "printed more than 1 MiB"),
    ],
)
async def test_a_program_is_bounded_in_time_and_output(
    code: str, error: type[Exception], text: str
) -> None:
    grace_s = 0.2 if error is HangsError else WAIT_S
    runner = Runner(grace_s=grace_s)
    with pytest.raises(error, match=text):
        await runner.tool((sys.executable, "-S", "-c", code), 0.0)


async def test_what_a_tool_leaves_behind_is_killed(tmp_path: Path) -> None:
    told = tmp_path / "pid"
    code = (
        "import os, signal, sys\n"
        f"if os.fork(): sys.exit()\nos.close(1); os.close(2)\n"
        f"open({str(told)!r}, 'w').write(str(os.getpid())); signal.pause()"
    )
    await Runner().tool((sys.executable, "-S", "-c", code), 0.0)

    def ended() -> bool:
        """A killed process whose parent has ended is init's, or nobody's."""
        state = Path(f"/proc/{told.read_text()}/stat") if told.exists() else None
        return state is None or not state.exists() or ") Z " in state.read_text()

    await _until(ended)


async def _until(done: Callable[[], bool]) -> None:
    async with asyncio.timeout(WAIT_S):
        while not done():  # noqa: ASYNC110  # the kernel tells nobody
            await asyncio.sleep(0.01)


def test_what_our_child_says_is_one_document() -> None:
    with pytest.raises(OutputError, match="ended with signal 9 and said nothing"):
        process.parse_found(process.Printed(text="", status=-signal.SIGKILL))


def test_the_driver_is_looked_for_here_and_then_below_the_hosts_root(tmp_path: Path) -> None:
    name = "libcuda.so.1"
    below = tmp_path / "host/usr/lib64"
    below.mkdir(parents=True)
    (below / name).write_text("")
    (tmp_path / name).write_text("")
    host = Host(tmp_path / "host")
    assert find_driver(host, {"LD_LIBRARY_PATH": str(tmp_path)}) == str(tmp_path / name)
    assert find_driver(Host(tmp_path / "none"), {}) is None
    found = find_driver(host, {})
    assert found is None or found.endswith(f"usr/lib64/{name}")
    only = variables_for("/x/libcuda.so.1", "GPU-7")
    assert only["CUDA_VISIBLE_DEVICES"] == "GPU-7"
    assert only["LD_LIBRARY_PATH"].split(":")[0] == "/x"

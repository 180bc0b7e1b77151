"""A bad day: the log, `health`, `discover` and the metrics tell the same story, word for word.

The stories lie in tests/field/stories. After a change that is meant, write them again with
STORIES=write, and read what has changed.
"""

import asyncio
import json
import os
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.nvml import NvmlDouble, Scenario, a100_40gb, write_host_tree
from tests.resources.conftest import start
from tests.resources.test_mps import PROGRAM, RULES
from tests.rig import GPU, WAIT_S, DaemonProcess, Rig, run_command

STORIES = Path(__file__).parent / "stories"
LOUD = ("warning", "error")
MIG = "nvidia.com/mig-3g.20gb"
ALL = {GPU: 1, MIG: 2}
DRIVER_NOT_LOADED = 9
SERIES = re.compile(
    r"deviceplugin_(device_fault\{.*|device_condition\{.*unhealthy.*\} 1\.0"
    r"|devices\{health=\"Unhealthy.*|vendor_up\{.*nvidia.*|config_last_reload_successful .*)"
)
pytestmark = pytest.mark.slow


@pytest.fixture
def nvml(rig: Rig) -> NvmlDouble:
    """Two A100, the second in two halves."""
    double = NvmlDouble(rig.host_root, scenario=Scenario(gpus=(a100_40gb(0), a100_40gb(1))))
    double.set_mig(1, ["3g.20gb", "3g.20gb"])
    write_host_tree(rig.host_root, double.scenario)
    return double


async def serving(rig: Rig, *, section: str = '{"health": {"hold_s": 0}}') -> DaemonProcess:
    await rig.stub.start()
    daemon = rig.start("--vendors", "nvidia", "--config", str(rig.config(section)))
    await rig.allocatable(ALL)
    await rig.stub.admit("train", {"main": {GPU: 1}})
    await held(rig, "default/train")
    return daemon


async def held(rig: Rig, pod: str) -> None:
    """Wait until the daemon knows who holds what."""
    async with asyncio.timeout(WAIT_S):
        while pod not in (await command(rig, "health"))[1]:  # noqa: ASYNC110  # a command
            await asyncio.sleep(0.1)


async def command(rig: Rig, *words: str) -> tuple[int, str, str]:
    done = await asyncio.to_thread(run_command, *words, "--state-dir", str(rig.state_dir))
    return done.returncode, done.stdout, done.stderr


async def story(rig: Rig, daemon: DaemonProcess) -> str:
    """What the four show, without times and places that differ from run to run."""
    status, health, said = await command(rig, "health")
    _, discovered, also_said = await command(rig, "discover")
    assert (said, also_said) == ("", "")
    _, metrics = await daemon.http("/metrics")
    parts = {
        "log": "\n".join(told(daemon)),
        f"health (status {status})": health.strip(),
        "discover": discovered.strip(),
        "metrics": "\n".join(sorted(x for x in metrics.splitlines() if SERIES.match(x))),
    }
    text = "\n\n".join(f"== {name}\n{part}" for name, part in parts.items()) + "\n"
    text = text.replace(str(rig.root), "/NODE")
    return re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ", "TIME", text)


def told(daemon: DaemonProcess) -> Iterator[str]:
    """The lines that an operator with `log_level: warning` has."""
    for event in daemon.events():
        if event["level"] in LOUD:
            where = event.get("devices") or event.get("device") or event.get("vendor") or ""
            done = f"; do: {event['action']}" if event.get("action") else ""
            yield f"{event['level']} {event['event']} {where}: {event.get('reason')}{done}"


def check(name: str, text: str) -> None:
    path = STORIES / f"{name}.txt"
    if os.environ.get("STORIES") == "write":
        path.write_text(text)
    assert path.read_text() == text


async def test_a_lost_gpu(rig: Rig, nvml: NvmlDouble) -> None:
    daemon = await serving(rig)
    nvml.lose(0)
    await rig.allocatable({GPU: 0})
    check("lost-gpu", await story(rig, daemon))
    assert "default/train" in (await command(rig, "health"))[1]


async def test_an_xid_79(rig: Rig, nvml: NvmlDouble) -> None:
    daemon = await serving(rig)
    async with asyncio.timeout(WAIT_S):
        while not daemon.events("fault", code="79"):
            nvml.raise_event(0, xid=79)
            await asyncio.sleep(0.2)
    await rig.allocatable({GPU: 0})
    check("xid-79", await story(rig, daemon))


async def test_a_driver_that_is_gone(rig: Rig, nvml: NvmlDouble) -> None:
    daemon = await serving(rig)
    nvml.fail("*", DRIVER_NOT_LOADED)
    await rig.allocatable({GPU: 0, MIG: 0})
    await daemon.wait_event("vendor_waits", vendor="nvidia")
    text = await story(rig, daemon)
    check("driver-gone", text)
    assert text.count("cleared by:") == 1


async def test_mps_that_does_not_start(rig: Rig, nvml: NvmlDouble) -> None:
    nvml.clear_mig(1)
    write_host_tree(rig.host_root, nvml.scenario)
    program = rig.host_root / "usr/bin/nvidia-cuda-mps-control"
    program.parent.mkdir(parents=True, exist_ok=True)
    program.write_text(PROGRAM.format(python=sys.executable))
    program.chmod(0o755)
    root = rig.host_root / "run/nvidia/mps"
    root.mkdir(parents=True)
    (root / "hold").write_text("")
    await rig.stub.start()
    daemon = start(rig, RULES)
    await rig.stub.wait_registered(GPU)
    await rig.allocatable({GPU: 0})
    await daemon.wait_event("fault", code="mps_not_ready")
    check("mps-not-ready", await story(rig, daemon))


async def test_mps_whose_program_is_not_on_the_node(rig: Rig, nvml: NvmlDouble) -> None:
    nvml.clear_mig(1)
    write_host_tree(rig.host_root, nvml.scenario)
    await rig.stub.start()
    daemon = start(rig, RULES)
    await rig.stub.wait_registered(GPU)
    await rig.allocatable({GPU: 0})
    await daemon.wait_event("fault", code="mps_not_ready")
    check("mps-program-missing", await story(rig, daemon))


async def test_a_rule_that_comes_to_nothing(rig: Rig, nvml: NvmlDouble) -> None:
    rules = {"rules": [{"match": {"vendor": "nvidia"}, "offers": [{"memory": {"unit": "1TiB"}}]}]}
    await rig.stub.start()
    daemon = rig.start("--vendors", "nvidia", "--config", str(rig.config(json.dumps(rules))))
    await daemon.wait_event("resource_refused")
    check("rule-without-slices", await story(rig, daemon))


async def test_a_wrong_configuration(rig: Rig, nvml: NvmlDouble) -> None:
    daemon = await serving(rig)
    rig.config("health: {hold_s: 0}\nnonsense: 1\n")
    await daemon.wait_event("configuration_refused")
    check("wrong-configuration", await story(rig, daemon))
    ready = await daemon.answers("/readyz")
    assert ready.splitlines()[0] == "ok"
    assert "the changed configuration is refused, the last good one stays: " in ready
    assert "nonsense" in ready
    rig.config(json.dumps({"health": {"hold_s": 0}, "log_level": "info"}))
    await daemon.until(lambda: not daemon.events("never") and reloaded(daemon))
    assert "refused" not in (await command(rig, "health"))[1]
    assert await daemon.answers("/readyz") == "ok\n"


def reloaded(daemon: DaemonProcess) -> bool:
    return bool(daemon.events("configuration_reloaded") or daemon.events("configuration_unchanged"))


async def test_a_gpu_that_is_taken_out_while_a_pod_holds_it(rig: Rig, nvml: NvmlDouble) -> None:
    daemon = await serving(rig)
    address = nvml.scenario.gpus[0].bdf
    nvml.remove(0)
    for folder in ("sys/bus/pci/devices", "proc/driver/nvidia/gpus"):
        shutil.rmtree(rig.host_root / folder / address)
    await daemon.wait_event("device_gone")
    status, health, _ = await command(rig, "health")
    assert status == 1
    assert "gone" in health
    assert "held by:    default/train" in health


async def test_explain_gives_nothing_that_a_pod_holds(rig: Rig, nvml: NvmlDouble) -> None:
    await serving(rig)
    status, _, said = await command(rig, "explain", "--resource", GPU, "--size", "1")
    assert status == 2
    assert "expected at most 0: nvidia.com/gpu has 1" in said
    status, shown, _ = await command(rig, "explain", "--resource", MIG, "--size", "2")
    assert status == 0
    assert f"{MIG}: 2 of 2" in shown


async def test_without_a_daemon_the_commands_say_what_they_show(rig: Rig, nvml: NvmlDouble) -> None:
    host = {"DEVICEPLUGIN_HOST_ROOT": str(rig.host_root), "DEVICEPLUGIN_VENDORS": "nvidia"}
    where = ("--state-dir", str(rig.state_dir))
    done = await asyncio.to_thread(lambda: run_command("discover", *where, **host))
    assert done.returncode == 0
    assert f"no daemon answers on {rig.state_dir}/control.sock" in done.stderr
    assert "this is what the node shows now" in done.stderr
    assert "nvidia.com/gpu" in done.stdout

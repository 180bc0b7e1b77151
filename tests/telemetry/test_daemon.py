"""The daemon on nodes with GPUs: what hardware answers is what /metrics shows, on real sockets."""

import asyncio
import os
import urllib.request
from contextlib import closing
from pathlib import Path

import pytest
from msgspec.structs import replace

from deviceplugin.telemetry.history import FILE, History, Series
from deviceplugin.testing.amd import amd_tree
from deviceplugin.testing.intel import B60, write_intel_node
from deviceplugin.testing.tree import write_tree
from tests.fakes.nvml import NvmlDouble
from tests.fakes.nvml.model import Process
from tests.rig import GPU, MIG_1G, DaemonProcess, Rig
from tests.telemetry.values import write_files
from tests.vendors.amd.amd_nodes import mi300x

pytestmark = pytest.mark.slow

ON = "telemetry: {enabled: true, interval_s: 1}\nmetrics: {pods: true}\n"
POWER = r"^deviceplugin_gpu_power_watts\{"


OFF = "metrics: {pods: true}\n"


async def started(rig: Rig, text: str = ON, resource: str = GPU) -> DaemonProcess:
    await rig.stub.start()
    daemon = rig.start("--config", str(rig.config(text)))
    await rig.stub.wait_registered(resource)
    return daemon


async def test_a_gpu_is_shown_with_the_pod_that_holds_it(rig: Rig, nvml: NvmlDouble) -> None:
    daemon = await started(rig)
    for index in range(8):
        nvml.update_gpu(index, lambda gpu: replace(gpu, power_usage_mw=312_500))
    await rig.stub.admit("train", {"main": {GPU: 1}})
    line = await daemon.shows(POWER + r'(.*pod="train".*)\} 312.5$')
    assert 'container="main"' in line[1]
    assert 'partition=""' in line[1]


async def test_an_instance_is_shown_with_its_pod(rig: Rig, nvml: NvmlDouble) -> None:
    daemon = await started(rig, resource=MIG_1G)
    await rig.stub.admit("small", {"main": {MIG_1G: 1}})
    name = "deviceplugin_gpu_memory_total_bytes"
    await daemon.shows(rf'^{name}\{{.*partition="[67]:[0-9]+".*pod="small"')


async def test_names_of_pods_are_shown_only_where_wanted(rig: Rig, nvml: NvmlDouble) -> None:
    daemon = await started(rig, ON.replace("pods: true", "pods: false"))
    await rig.stub.admit("train", {"main": {GPU: 1}})
    await daemon.shows(POWER)
    _, text = await daemon.http("/metrics")
    assert "train" not in text


async def test_a_lost_gpu_is_down_and_the_others_go_on(rig: Rig, nvml: NvmlDouble) -> None:
    daemon = await started(rig)
    await daemon.shows(POWER + r'.*index="0"')
    nvml.lose(0)
    await daemon.shows(r'^deviceplugin_gpu_up\{.*index="0".*\} 0.0$')
    nvml.update_gpu(1, lambda gpu: replace(gpu, power_usage_mw=99_000))
    await daemon.shows(POWER + r'.*index="1".*\} 99.0$')
    _, text = await daemon.http("/metrics")
    assert 'deviceplugin_gpu_last_seen_timestamp_seconds{vendor="nvidia"' in text
    nvml.recover(0)
    await daemon.shows(r'^deviceplugin_gpu_up\{.*index="0".*\} 1.0$')


async def test_a_scrape_is_openmetrics_where_that_is_asked_for(rig: Rig, nvml: NvmlDouble) -> None:
    daemon = await started(rig)
    address = (await daemon.wait_event("metrics_served"))["address"]

    def fetch() -> tuple[str, str]:
        accept = {"Accept": "application/openmetrics-text;version=1.0.0,*/*;q=0.1"}
        request = urllib.request.Request(f"http://{address}/metrics", headers=accept)
        with urllib.request.urlopen(request) as answer:  # noqa: S310  # our own http URL
            return answer.headers["Content-Type"], answer.read().decode()

    kind, text = await asyncio.to_thread(fetch)
    assert kind.startswith("application/openmetrics-text; version=1.0.0")
    assert text.endswith("# EOF\n")


async def test_a_process_is_its_pods(rig: Rig, nvml: NvmlDouble) -> None:
    uid = "0f6a1c2e-1111-2222-3333-444455556666"
    write_files(
        rig.host_root,
        {
            "/proc/stat": "btime 1700000000",
            "/proc/77/stat": "77 (python) S " + " ".join(["0"] * 50),
            "/proc/77/cmdline": "",
            "/proc/77/status": "Name:\tpython",
            "/proc/77/cgroup": f"0::/kubepods/pod{uid}/{'c' * 64}",
        },
    )
    (rig.host_root / f"var/log/pods/default_train_{uid}/main").mkdir(parents=True)
    one = (Process(pid=77, memory=5 << 20, sm=40),)
    nvml.update_gpu(0, lambda gpu: replace(gpu, processes=one))
    daemon = await started(rig, ON.replace("interval_s: 1", "interval_s: 1, processes: true"))
    line = await daemon.shows(
        r'^deviceplugin_gpu_pod_memory_used_bytes\{(.*index="0".*)\} 5242880.0$'
    )
    assert 'namespace="default",pod="train",container="main"' in line[1]
    await daemon.shows(r'^deviceplugin_gpu_pod_utilization_ratio\{.*pod="train".*\} 0.4$')


async def test_a_reload_switches_it_on_and_off(rig: Rig, nvml: NvmlDouble) -> None:
    daemon = await started(rig, OFF)
    _, text = await daemon.http("/metrics")
    assert "deviceplugin_gpu_" not in text
    rig.config(ON)
    await daemon.shows(POWER)
    rig.config(OFF)

    async def gone() -> None:
        while "deviceplugin_gpu_" in (await daemon.http("/metrics"))[1]:  # noqa: ASYNC110  # a page
            await asyncio.sleep(0.05)

    await asyncio.wait_for(gone(), 240)


async def test_history_is_there_after_the_daemon_has_ended(rig: Rig, nvml: NvmlDouble) -> None:
    daemon = await started(rig, ON.replace("interval_s: 1", "interval_s: 1, history: true"))
    await daemon.shows(POWER)
    assert await daemon.stop() == 0
    assert (rig.state_dir / FILE).stat().st_mode & 0o077 == 0
    with closing(History(rig.state_dir)) as history:
        series = [one for one in history.series() if one.metric == "power_watts"]
        assert len(series) == 8
        (point,) = history.query(Series("power_watts", series[0].subject), 0, 4e9)[-1:]
    assert point.mean == 56.0


async def test_three_vendors_have_one_set_of_names(rig: Rig, nvml: NvmlDouble) -> None:
    gpu = replace(B60, address="0000:b4:00.0", card=60, render=190, group=300)
    write_tree(rig.host_root, amd_tree([mi300x()]))
    write_intel_node(rig.host_root, gpu)
    amd = mi300x().address
    for address, name, file, value in (
        (amd, "amdgpu", "power1_input", 250_000_000),
        (gpu.address, "xe", "energy1_input", 7_000_000),
    ):
        folder = rig.host_root / f"sys/bus/pci/devices/{address}"
        monitor = Path(os.path.realpath(folder)) / "hwmon/hwmon3"
        write_files(monitor, {"/name": name, f"/{file}": value})
    daemon = await started(rig)
    await daemon.shows(POWER + r'vendor="nvidia".*\} 56.0$')
    await daemon.shows(POWER + r'vendor="amd".*\} 250.0$')
    await daemon.shows(r'^deviceplugin_gpu_energy_joules_total\{vendor="intel".*\} 7.0$')

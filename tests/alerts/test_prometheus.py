"""Rules and dashboards with a real Prometheus: they load, each default rule fires for what it is
about and for nothing else, and every query of a dashboard gives data of a running daemon."""

import asyncio
import json
import re
import socket
import subprocess
import urllib.parse
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from deviceplugin.alerts.dashboards import BOARDS, dashboard
from deviceplugin.alerts.defaults import default_rules
from deviceplugin.alerts.render import rule_groups, scrape_config
from deviceplugin.alerts.section import AlertSection
from deviceplugin.metrics.http import HttpServer, application
from deviceplugin.metrics.registry import CONTENT_TYPE, Registry
from deviceplugin.runtime.part import Response
from deviceplugin.telemetry.metric import PREFIX
from tests.alerts.debian import program
from tests.alerts.exporter import Measured
from tests.fakes.nvml import NvmlDouble
from tests.rig import GPU, WAIT_S, Rig, fetch

pytestmark = pytest.mark.slow

HOT = AlertSection(name="high_temperature", condition="temperature > 85°C", severity="critical")
D, U = 'instance="n",device="GPU-0"', 'instance="n",uuid="GPU-0"'
POD = 'namespace="a",pod="b",container="c"'
# Of each rule: series with the values by which it fires, and after how long.
CASES: Mapping[str, tuple[dict[str, str], str]] = {
    "DevicepluginCertainFinding": (
        {'deviceplugin_certain_finding{device="g",finding="bank_without_spares"}': "1x5"},
        "1m",
    ),
    "DevicepluginFailureProbable": (
        {'deviceplugin_failure_probability{device="g",window_days="91",calibrated="no"}': "0.9x5"},
        "1m",
    ),
    "DevicepluginRelativeRisk": ({'deviceplugin_failure_relative_risk{device="g"}': "5x5"}, "1m"),
    "DevicepluginRemainingLifeShort": (
        {'deviceplugin_remaining_life_low_seconds{device="g"}': "2000000x5"},
        "1m",
    ),
    "DevicepluginCapacityShrunk": (
        {'deviceplugin_devices{instance="n",resource="r",health="Unhealthy"}': "1x30"},
        "6m",
    ),
    "DevicepluginGpuUnhealthy": ({f"{PREFIX}up{{{U}}}": "0x5"}, "1m"),
    "DevicepluginGpuFlaps": (
        {f'deviceplugin_device_condition{{{D},condition="healthy"}}': "1 0 1 0 1 0 1"},
        "6m",
    ),
    "DevicepluginAllocationsFail": (
        {'deviceplugin_allocation_refusals_total{instance="n",resource="r"}': "1+1x30"},
        "12m",
    ),
    "DevicepluginNotRegistered": (
        {'deviceplugin_devices{instance="n",resource="r",health="Healthy"}': "8x10"},
        "3m",
    ),
    "DevicepluginRegistersAgain": (
        {'deviceplugin_registrations_total{instance="n",resource="r",result="accepted"}': "1+1x20"},
        "11m",
    ),
    "DevicepluginMemoryOvercommitted": (
        {
            f"deviceplugin_device_granted_bytes{{{D}}}": "50x5",
            f"{PREFIX}memory_total_bytes{{{U}}}": "40x5",
        },
        "1m",
    ),
    "DevicepluginMemoryLimitBreached": (
        {
            f"deviceplugin_container_granted_bytes{{{D},{POD}}}": "5x5",
            f"{PREFIX}pod_memory_used_bytes{{{U},{POD}}}": "6x5",
        },
        "2m",
    ),
    "DevicepluginSliceLimitBreached": ({f"deviceplugin_slices_exceeded{{{D}}}": "1x5"}, "2m"),
    "DevicepluginIdleAllocated": (
        {
            f"deviceplugin_device_holders{{{D}}}": "1x70",
            f'{PREFIX}utilization_ratio{{{U},engine="compute"}}': "0.001x70",
        },
        "65m",
    ),
    "DevicepluginGpuBypassed": ({f"deviceplugin_bypass_processes{{{D}}}": "1x5"}, "1m"),
    "DevicepluginRowRemapPending": ({f"{PREFIX}row_remap_pending{{{U}}}": "1x1500"}, "1441m"),
    "DevicepluginNoSpareRows": ({f'{PREFIX}row_banks{{{U},spare="none"}}': "2x5"}, "1m"),
    "DevicepluginLibraryTimesOut": (
        {f'deviceplugin_device_fault{{{D},code="health_unreadable"}}': "1x10"},
        "6m",
    ),
    "DevicepluginPowerBrake": (
        {
            f'{PREFIX}throttled{{{U},reason="power_brake"}}': "1x5",
            f'{PREFIX}throttled{{instance="n",uuid="GPU-1",reason="power_brake"}}': "1x5",
        },
        "1m",
    ),
    "DevicepluginEccOffWhileShared": (
        {f"{PREFIX}ecc_enabled{{{U}}}": "0x5", f"deviceplugin_device_shares{{{D}}}": "4x5"},
        "1m",
    ),
    "DevicepluginTelemetryStale": ({f"{PREFIX}reading_age_seconds{{{U}}}": "31x5"}, "2m"),
    "high_temperature": ({f'{PREFIX}temperature_celsius{{{U},sensor="gpu"}}': "86x5"}, "1m"),
}
# A node on which all is well: the same series, and none of the rules fires.
WELL: Mapping[str, str] = {
    'deviceplugin_devices{instance="n",resource="r",health="Healthy"}': "8x1500",
    'deviceplugin_devices{instance="n",resource="r",health="Unhealthy"}': "0x1500",
    'deviceplugin_registrations_total{instance="n",resource="r",result="accepted"}': "1x1500",
    'deviceplugin_allocation_refusals_total{instance="n",resource="r"}': "3x1500",
    f'deviceplugin_device_condition{{{D},condition="unhealthy"}}': "0x1500",
    f'deviceplugin_device_condition{{{D},condition="healthy"}}': "1x1500",
    f"deviceplugin_device_granted_bytes{{{D}}}": "40x1500",
    f"deviceplugin_container_granted_bytes{{{D},{POD}}}": "5x1500",
    f"deviceplugin_device_holders{{{D}}}": "1x1500",
    f"deviceplugin_slices_exceeded{{{D}}}": "0x1500",
    f"deviceplugin_device_shares{{{D}}}": "4x1500",
    f"{PREFIX}up{{{U}}}": "1x1500",
    f"{PREFIX}memory_total_bytes{{{U}}}": "40x1500",
    f"{PREFIX}pod_memory_used_bytes{{{U},{POD}}}": "5x1500",
    f'{PREFIX}utilization_ratio{{{U},engine="compute"}}': "0.5x1500",
    f'{PREFIX}utilization_ratio{{{U},engine="encoder"}}': "0x1500",
    f"{PREFIX}row_remap_pending{{{U}}}": "0x1500",
    f'{PREFIX}row_banks{{{U},spare="none"}}': "0x1500",
    f'{PREFIX}throttled{{{U},reason="power_brake"}}': "1x1500",
    f"{PREFIX}ecc_enabled{{{U}}}": "1x1500",
    f"{PREFIX}reading_age_seconds{{{U}}}": "29x1500",
    f'{PREFIX}temperature_celsius{{{U},sensor="gpu"}}': "84x1500",
    f'{PREFIX}temperature_celsius{{{U},sensor="memory"}}': "99x1500",
}


def promtool(*arguments: object) -> None:
    command = [program("promtool", "prometheus"), *map(str, arguments)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=WAIT_S)
    assert ended.returncode == 0, ended.stdout + ended.stderr


def rules_file(directory: Path) -> Path:
    path = directory / "rules.yaml"
    path.write_text(yaml.safe_dump(rule_groups([HOT], 10.0)))
    return path


def test_rules_and_the_scrape_config_are_valid(tmp_path: Path) -> None:
    promtool("check", "rules", rules_file(tmp_path))
    path = tmp_path / "prometheus.yaml"
    document = scrape_config()
    del document["scrape_configs"][0]["kubernetes_sd_configs"]  # Debian's build has none
    path.write_text(yaml.safe_dump(document))
    promtool("check", "config", "--syntax-only", path)


def test_every_rule_has_a_case() -> None:
    assert CASES.keys() == {rule.name for rule in default_rules(10.0)} | {HOT.name}


def alert_names(rules: Path) -> list[str]:
    groups = yaml.safe_load(rules.read_text())["groups"]
    return [rule["alert"] for group in groups for rule in group["rules"]]


def unit_test(rules: Path, series: Mapping[str, str], checks: list[dict[str, Any]]) -> None:
    test = {
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "promql_expr_test": checks,
    }
    path = rules.parent / "test.yaml"
    document = {"rule_files": [rules.name], "evaluation_interval": "1m", "tests": [test]}
    path.write_text(yaml.safe_dump(document))
    promtool("test", "rules", path)


def firing(name: str, at: str, count: int) -> dict[str, Any]:
    expr = f'count(ALERTS{{alertname="{name}",alertstate="firing"}}) or vector(0)'
    return {"expr": expr, "eval_time": at, "exp_samples": [{"labels": "{}", "value": count}]}


@pytest.mark.parametrize("name", CASES)
def test_a_rule_fires_for_what_it_is_about(name: str, tmp_path: Path) -> None:
    series, at = CASES[name]
    unit_test(rules_file(tmp_path), series, [firing(name, at, 1)])


def test_no_rule_fires_on_a_node_that_is_well(tmp_path: Path) -> None:
    rules = rules_file(tmp_path)
    unit_test(rules, WELL, [firing(name, "1445m", 0) for name in alert_names(rules)])


@contextmanager
def prometheus(directory: Path, targets: list[str]) -> Iterator[str]:
    """The address of one that scrapes `targets` every second by the rules."""
    rules = rules_file(directory)
    job = {"job_name": "d", "honor_labels": True, "static_configs": [{"targets": targets}]}
    config = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(rules)],
        "scrape_configs": [job],
    }
    path = directory / "prometheus.yaml"
    path.write_text(yaml.safe_dump(config))
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    command = [program("prometheus", "prometheus"), f"--config.file={path}"]
    command += [f"--storage.tsdb.path={directory}/data", f"--web.listen-address={address}"]
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(command, stderr=log, stdout=log)
    try:
        yield f"http://{address}"
    finally:
        process.terminate()
        process.wait(WAIT_S)


async def answer(url: str, expr: str) -> list[Any]:
    """The result of a query once there is one."""
    path = f"{url}/api/v1/query?query={urllib.parse.quote(expr)}"
    async with asyncio.timeout(WAIT_S):
        while True:
            try:
                _, text = await asyncio.to_thread(fetch, path)
                found: list[Any] = json.loads(text)["data"]["result"]
            except (OSError, ValueError, KeyError):  # it starts
                found = []
            if found:
                return found
            await asyncio.sleep(0.1)


def queries() -> Iterator[str]:
    """Of both dashboards of a daemon, for every node and device."""
    for name in BOARDS.keys() - {"gpu_scheduler"}:
        for panel in dashboard(name)["panels"]:
            for target in panel["targets"]:
                yield re.sub(r"\$(?:instance|uuid)\b", ".*", target["expr"])


async def test_an_injected_over_temperature_fires_and_dashboards_have_data(
    rig: Rig, nvml: NvmlDouble, tmp_path: Path
) -> None:
    await rig.stub.start()
    daemon = rig.start()
    await rig.stub.wait_registered(GPU)
    await rig.stub.admit("trainer", {"main": {GPU: 1}})
    measured, registry = Measured(), Registry()
    measured.set(temperature_celsius=91.0)
    registry.register(measured)
    page = {"/metrics": lambda: Response("200 OK", CONTENT_TYPE, registry.text())}
    server = HttpServer(application(page), ("127.0.0.1", 0))
    address = (await daemon.wait_event("metrics_served"))["address"]
    try:
        with prometheus(tmp_path, [address, f"127.0.0.1:{server.port}"]) as url:
            for expr in queries():
                await answer(url, expr)
            (hot,) = await answer(url, f'ALERTS{{alertname="{HOT.name}",alertstate="firing"}}')
            assert (hot["metric"]["uuid"], hot["metric"]["severity"]) == ("GPU-0", "critical")
    finally:
        server.close()

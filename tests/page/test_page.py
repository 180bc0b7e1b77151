"""The page of a running daemon, over its real sockets."""

import asyncio
import json
from typing import Any

import jsonschema
import pytest

from deviceplugin.metrics.local import is_local
from deviceplugin.page.made import AGAIN_MS
from tests.fakes.nvml import NvmlDouble
from tests.rig import GPU, MIG_1G, DaemonProcess, Rig, run_command

pytestmark = pytest.mark.slow


async def served(rig: Rig, *arguments: str) -> DaemonProcess:
    await rig.stub.start()
    daemon = rig.start(*arguments)
    await rig.stub.wait_registered(GPU, MIG_1G)
    return daemon


async def shown(daemon: DaemonProcess, path: str, text: str) -> str:
    """The page once it has `text`."""
    while text not in (found := (await daemon.http(path))[1]):
        assert daemon.process.poll() is None
        await asyncio.sleep(0.05)
    return found


async def test_the_page_shows_who_holds_which_partition(rig: Rig, nvml: NvmlDouble) -> None:
    daemon = await served(rig)
    await rig.stub.admit("trainer", {"main": {MIG_1G: 1}})
    page = await shown(daemon, "/", "default/trainer")
    status = json.loads((await daemon.http("/status"))[1])
    jsonschema.validate(status, json.loads((await daemon.http("/status/schema"))[1]))
    parts = [part for device in status["devices"] for part in device["partitions"]]
    assert [p["held_by"][0]["pod"] for p in parts if p["held"]] == ["trainer"]
    assert all(part["profile"] in page for part in parts)


async def test_a_fault_is_on_the_page_with_what_to_do(rig: Rig, nvml: NvmlDouble) -> None:
    daemon = await served(rig)
    nvml.lose(3)
    page = await shown(daemon, "/", "1 not healthy")
    (fault, *_) = json.loads((await daemon.http("/status"))[1])["faults"]
    assert fault["action"]
    assert fault["action"].split()[0] in page


async def test_an_event_is_the_page_and_ends(rig: Rig, nvml: NvmlDouble) -> None:
    daemon = await served(rig)
    _, stream = await daemon.http("/events")
    retry, kind, data, *end = stream.split("\n")
    assert (retry, kind, end) == (f"retry: {AGAIN_MS}", "event: status", ["", ""])
    assert "NVIDIA A100" in json.loads(data.removeprefix("data: "))


async def test_pods_are_not_named_where_others_can_read(rig: Rig, nvml: NvmlDouble) -> None:
    daemon = await served(rig, "--metrics-address", "0.0.0.0:0")
    await rig.stub.admit("trainer", {"main": {MIG_1G: 1}})
    page = await shown(daemon, "/", "held by 1 container")
    _, status = await daemon.http("/status")
    assert "trainer" not in page
    assert "trainer" not in status
    told = run_command("status", "--state-dir", str(rig.state_dir), "--format", "json")
    assert "trainer" in told.stdout  # on the node, to root


async def test_a_flag_names_pods_where_others_can_read(rig: Rig, nvml: NvmlDouble) -> None:
    daemon = await served(rig, "--metrics-address", "0.0.0.0:0", "--expose-pods")
    await rig.stub.admit("trainer", {"main": {MIG_1G: 1}})
    await shown(daemon, "/", "default/trainer")
    _, status = await daemon.http("/status")
    assert "trainer" in status


@pytest.mark.parametrize(
    ("pods", "address", "text"),
    [
        ("true", "0.0.0.0:0", "default/trainer"),
        ("false", "127.0.0.1:0", "held by 1 container"),
    ],
)
async def test_the_configuration_has_the_last_word_on_pods(
    pods: str, address: str, text: str, rig: Rig, nvml: NvmlDouble
) -> None:
    config = rig.config(f"metrics: {{pods: {pods}}}")
    daemon = await served(rig, "--config", str(config), "--metrics-address", address)
    await rig.stub.admit("trainer", {"main": {MIG_1G: 1}})
    await shown(daemon, "/", text)


async def test_a_page_that_is_off_is_not_there(rig: Rig, nvml: NvmlDouble) -> None:
    config = rig.config("page: {enabled: false}")
    daemon = await served(rig, "--config", str(config))
    for path in ("/", "/events", "/status"):
        assert await daemon.http(path) == (404, "page.enabled is false\n")
    config.write_text("{}")
    await daemon.answers("/")


async def test_the_command_shows_the_same(rig: Rig, nvml: NvmlDouble) -> None:
    await served(rig)
    told = await asyncio.to_thread(run_command, "status", "--state-dir", str(rig.state_dir))
    assert (told.returncode, told.stderr) == (0, "")
    assert told.stdout.startswith("node-1: 8 GPUs, all healthy\n")
    assert "  1g.5gb" in told.stdout


def test_without_a_daemon_the_command_says_so(rig: Rig) -> None:
    told = run_command("status", "--state-dir", str(rig.root))
    assert told.returncode == 1
    assert "no daemon answers" in told.stderr


@pytest.mark.parametrize(
    ("address", "local"),
    [
        (("127.0.0.1", 1), True),
        (("127.1.2.3", 1), True),
        (("::1", 1), True),
        (("localhost", 1), True),
        (("0.0.0.0", 1), False),
        (("10.0.0.1", 1), False),
        (None, False),
    ],
)
def test_only_loopback_is_local(address: Any, *, local: bool) -> None:
    assert is_local(address) is local

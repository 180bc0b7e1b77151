"""A running daemon and its configuration: what a change does, and what a bad one does not."""

import asyncio
import os
import shutil
import signal
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from deviceplugin.config.config import Config
from deviceplugin.testing.tree import write_tree
from tests.fakes.nvml import NvmlDouble
from tests.rig import GPU, WAIT_S, DaemonProcess, Rig, run_command
from tests.third_party.plugin import WELL_BEHAVED, install, spoilt

SPARE = 8  # asyncio and gRPC start threads of theirs when there is work
EMPTY = "(an empty one stands for the defaults)"
THING, SHARED, PART = "example.com/thing", "example.com/thing.shared", "example.com/part"
RELOADED, REFUSED, UNCHANGED = (
    f"configuration_{word}" for word in ("reloaded", "refused", "unchanged")
)
MEMORY = ('"nodes":', '"memory_bytes": 1 << 34, "nodes":')  # what can be shared has some
PLAIN = WELL_BEHAVED.replace(*MEMORY)
GATED = spoilt(
    """
def container_edits(self, devices):
    import time
    (pathlib.Path(self.host.path("/dev")) / f"asked-{len(devices)}").touch()
    while self.host.exists("/dev/closed"):
        time.sleep(0.001)
    return super().container_edits(devices)
"""
)
FAILING = PLAIN.replace(
    "    return Vendor(",
    "    if sections['example'].greeting == 'fail': raise OSError('no')\n    return Vendor(",
)


def replicas(count: int, name: str = SHARED) -> str:
    """Each thing in so many replicas."""
    return f"rules: [{{offers: [{{replicas: {count}, name: {name}}}]}}]\n"


def greeting(text: str) -> str:
    return f"example: {{greeting: {text}}}\n"


class Node:
    """A rig with two things of a third party's vendor, and a daemon that reads `path`."""

    def __init__(self, rig: Rig) -> None:
        self.rig, self.stub = rig, rig.stub
        self.path = rig.root / "conf" / "config.yaml"
        self.path.parent.mkdir()
        self.daemon: DaemonProcess

    async def start(self, text: str, source: str = PLAIN, *flags: str) -> None:
        """Serve by this configuration."""
        write_tree(self.rig.host_root, "/dev/example/a c 1:1\n/dev/example/b c 1:2")
        self.write(text)
        places = install(self.rig.root / "site", source)
        await self.stub.start()
        config = flags or ("--config", str(self.path))
        self.daemon = self.rig.start("--vendors", "example", *config, PYTHONPATH=places)

    def write(self, text: str) -> None:
        """As editors and tools do: a new file takes the old one's place."""
        draft = self.path.with_name("draft")
        draft.write_text(text)
        draft.rename(self.path)

    def hang_up(self) -> None:
        self.daemon.process.send_signal(signal.SIGHUP)

    async def told(self, event: str, count: int = 1) -> dict[str, Any]:
        """The event of this number."""
        try:
            async with asyncio.timeout(WAIT_S):
                while len(found := self.daemon.events(event)) < count:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
        except TimeoutError as error:
            raise TimeoutError(f"{event} {count}: {self.daemon.log_path.read_text()}") from error
        return found[count - 1]

    async def reload(self, text: str, count: int = 1) -> dict[str, Any]:
        """Change the file; the event that says it was taken, which is the one of this number."""
        self.write(text)
        return await self.told(RELOADED, count)

    def changed(self) -> list[str]:
        """The keys that were changed, one after the other."""
        taken = self.daemon.events(RELOADED)
        return [change["key"] for event in taken for change in event["changes"]]

    def reasons(self) -> str:
        """Why files were refused, one after the other."""
        return "\n".join(event["reason"] for event in self.daemon.events(REFUSED))

    async def metric(self, name: str) -> float:
        _, text = await self.daemon.http("/metrics")
        (line,) = [line for line in text.splitlines() if line.startswith(f"{name} ")]
        return float(line.split()[1])


@pytest.fixture
async def node(rig: Rig) -> AsyncIterator[Node]:
    node = Node(rig)
    yield node
    assert rig.stub.crashes == []
    assert rig.stub.violations == []


async def test_more_replicas_come_without_a_new_process_or_registration(node: Node) -> None:
    await node.start(replicas(2))
    await node.rig.capacity({SHARED: 4})
    await node.stub.admit("pod", {"main": {SHARED: 1}})
    before = node.stub.merged("pod", "main")
    event = await node.reload(replicas(8))
    assert event["changes"] == [{"key": "rules[0].offers[0].replicas", "before": 2, "after": 8}]
    await node.rig.capacity({SHARED: 16})
    assert node.stub.allocatable() == {SHARED: 16}
    assert node.stub.merged("pod", "main") == before
    assert len(node.stub.registrations) == node.stub.live_streams(SHARED) == 1
    assert node.stub.log.stream_ends == []
    assert node.daemon.process.poll() is None


async def test_ids_that_pods_hold_stay_listed_when_replicas_go_and_others_leave(node: Node) -> None:
    await node.start(replicas(4))
    await node.rig.capacity({SHARED: 8})
    for number in range(6):
        await node.stub.admit(f"pod-{number}", {"main": {SHARED: 1}})
    held = {
        i
        for one in node.stub.pods
        for _, h in node.stub.manager.holders_of(one, "main")
        for i in h.ids
    }
    await node.reload(replicas(2))
    wanted = held | {f"thing-{name}::{number}" for name in "ab" for number in range(2)}
    await node.stub.wait_for(
        lambda: node.stub.devices(SHARED).keys() == wanted, WAIT_S, f"ids {sorted(wanted)}"
    )
    assert node.stub.allocatable() == {SHARED: 4}


async def test_a_resource_of_another_name_takes_the_place_of_the_old_one(rig: Rig) -> None:
    node = Node(rig)
    await node.start(replicas(2))
    await rig.capacity({SHARED: 4})
    await node.reload(replicas(2, PART))
    await rig.stub.wait_registered(PART)
    await rig.allocatable({PART: 4, SHARED: 0})
    await node.daemon.wait_event("resource_removed", resource=SHARED)
    await rig.capacity({PART: 4, SHARED: 0})


async def test_a_device_that_a_pod_holds_under_the_old_name_is_not_offered_under_the_new_one(
    rig: Rig,
) -> None:
    node = Node(rig)
    await node.start("")
    await rig.capacity({THING: 2})
    await rig.stub.admit("pod", {"main": {THING: 1}})
    await node.reload(f"rules: [{{offers: [{{whole: true, name: {PART}}}]}}]")
    await rig.capacity({PART: 1, THING: 1})
    assert rig.stub.allocatable() == {PART: 1, THING: 0}
    ((held, _),) = rig.stub.devices(THING).items()
    assert rig.stub.devices(PART).keys() == {"thing-a", "thing-b"} - {held}
    assert rig.stub.merged("pod", "main").envs["GREETING"] == "hello"
    assert rig.stub.crashes == []


BAD = {
    "no YAML": ("rules: [", "config.yaml' is not valid, expected YAML"),
    "a number that is none": (
        "a: !!int text",
        "expected YAML (line 1, column 4: it is not a valid int",
    ),
    "deep": ("[" * 5000, "expected YAML"),
    "an unknown key": ("exampel: {}", "exampel: {} is not valid, expected a known key"),
    "a wrong type": (
        greeting("7"),
        'example.greeting: 7 is not valid, expected text: write it in quotes, "7"',
    ),
    "a bad value": ("log_level: loud", "log_level: 'loud' is not valid, expected one of debug"),
}


@pytest.mark.parametrize(("text", "reason"), BAD.values(), ids=BAD)
async def test_a_bad_file_is_refused_once_and_the_last_good_one_stays(
    node: Node, text: str, reason: str
) -> None:
    await node.start(greeting("good"))
    await node.rig.capacity({THING: 2})
    taken_at = await node.metric("deviceplugin_config_last_reload_success_timestamp_seconds")
    assert await node.metric("deviceplugin_config_last_reload_successful") == 1
    node.write(text)
    assert reason in (await node.told(REFUSED))["reason"]
    assert await node.metric("deviceplugin_config_last_reload_successful") == 0
    await node.daemon.answers("/readyz")
    await node.stub.admit("pod", {"main": {THING: 1}})
    assert node.stub.merged("pod", "main").envs["GREETING"] == "good"
    os.utime(node.path)
    node.write(text)
    await node.reload(greeting("better"))
    assert len(node.daemon.events(REFUSED)) == 1
    assert await node.metric("deviceplugin_config_last_reload_successful") == 1
    now = await node.metric("deviceplugin_config_last_reload_success_timestamp_seconds")
    assert now > taken_at


async def test_a_hangup_without_a_change_says_so(node: Node) -> None:
    await node.start(greeting("hello"))
    await node.rig.capacity({THING: 2})
    node.hang_up()
    await node.told(UNCHANGED)
    node.write(f"# another text of the same meaning\n{greeting('hello')}")
    node.hang_up()
    await node.told(UNCHANGED, 2)
    assert node.daemon.events(RELOADED) == []


async def test_a_hangup_without_a_file_ends_nothing(node: Node) -> None:
    await node.start("", PLAIN, "--log-level", "debug")
    await node.rig.capacity({THING: 2})
    node.hang_up()
    await node.told(UNCHANGED)
    await node.stub.admit("pod", {"main": {THING: 1}})


async def test_a_hangup_asks_again_for_the_reason_of_a_refusal(node: Node) -> None:
    await node.start(greeting("hello"))
    await node.rig.capacity({THING: 2})
    node.write("nonsense: 1")
    first = await node.told(REFUSED)
    node.hang_up()
    assert (await node.told(REFUSED, 2))["reason"] == first["reason"]
    node.write(greeting("hello"))
    await node.told(UNCHANGED)


async def test_a_flag_wins_over_a_changed_file_too(node: Node) -> None:
    await node.start(greeting("hello"))
    await node.rig.capacity({THING: 2})
    node.write(f"{greeting('hello')}state_dir: /else\nnode_name: other\n")
    node.hang_up()
    await node.told(UNCHANGED)


async def test_a_file_that_goes_and_comes_back_changes_nothing_until_it_is_another(
    node: Node,
) -> None:
    await node.start(greeting("hello"))
    await node.rig.capacity({THING: 2})
    node.path.unlink()
    assert "No such file" in (await node.told(REFUSED))["reason"]
    node.write(greeting("hello"))
    await node.told(UNCHANGED)
    assert await node.metric("deviceplugin_config_last_reload_successful") == 1
    (change,) = (await node.reload(greeting("bye")))["changes"]
    assert change == {"key": "example.greeting", "before": "hello", "after": "bye"}


async def test_a_file_that_is_written_in_place_is_taken(node: Node) -> None:
    await node.start(greeting("hello"))
    await node.rig.capacity({THING: 2})
    node.path.write_text(greeting("bye"))
    await node.told(RELOADED)


def config_map(directory: Path, version: int, **files: str) -> None:
    """What the kubelet does with a ConfigMap's mount: a new directory, one swap of `..data`."""
    data = directory / f"..{version}"
    data.mkdir(parents=True)
    for name, text in files.items():
        (data / f"{name}.yaml").write_text(text)
    (directory / "..data_tmp").symlink_to(data.name)
    (directory / "..data_tmp").rename(directory / "..data")
    for name in files:
        if not (link := directory / f"{name}.yaml").is_symlink():
            link.symlink_to(f"..data/{name}.yaml")
    for link in directory.glob("*.yaml"):
        if link.stem not in files:
            link.unlink()
    for old in directory.glob("..[0-9]*"):
        if old != data:
            shutil.rmtree(old)


async def test_a_changed_config_map_is_taken_without_a_restart(node: Node) -> None:
    mount = node.rig.root / "mount"
    config_map(mount, 1, a=greeting("one"))
    await node.start("", PLAIN, "--config", str(mount))
    await node.rig.capacity({THING: 2})
    config_map(mount, 2, a=greeting("two"), b=replicas(2))
    await node.daemon.until(lambda: "rules" in node.changed(), node.changed)
    assert node.changed() == ["example.greeting", "rules"]
    taken = len(node.daemon.events(RELOADED))  # two, where it looked before the new link was made
    await node.rig.allocatable({SHARED: 4})
    config_map(mount, 3)
    await node.daemon.until(lambda: EMPTY in node.reasons(), node.reasons)
    config_map(mount, 4, a="")
    await node.told(RELOADED, taken + 1)
    await node.rig.allocatable({THING: 2})


async def test_a_file_behind_a_link_is_followed_to_where_it_is(node: Node) -> None:
    """As NVIDIA's config-manager links the file of its choice."""
    mount, link = node.rig.root / "mount", node.rig.root / "link" / "config.yaml"
    config_map(mount, 1, a=greeting("one"), b=greeting("three"))
    link.parent.mkdir()
    link.symlink_to(mount / "a.yaml")
    await node.start("", PLAIN, "--config", str(link))
    await node.rig.capacity({THING: 2})
    config_map(mount, 2, a=greeting("two"), b=greeting("three"))
    await node.told(RELOADED)
    draft = link.with_name("draft")
    draft.symlink_to(mount / "b.yaml")
    draft.rename(link)
    assert (await node.told(RELOADED, 2))["changes"][0]["after"] == "three"


async def test_an_allocation_ends_by_the_configuration_by_which_it_began(node: Node) -> None:
    gate = node.rig.host_root / "dev" / "closed"
    await node.start(greeting("old"), f"import pathlib\n{GATED}")
    await node.rig.capacity({THING: 2})
    gate.touch()
    begun = asyncio.create_task(node.stub.admit("first", {"main": {THING: 2}}))
    async with asyncio.timeout(WAIT_S):
        while not gate.with_name("asked-2").exists():  # noqa: ASYNC110  # a thread's doing
            await asyncio.sleep(0.01)
    node.write(greeting("new"))
    node.hang_up()  # at once: an allocation waits five seconds for its vendor
    await node.told(RELOADED)
    assert not begun.done()
    gate.unlink()
    await begun
    assert node.stub.merged("first", "main").envs["GREETING"] == "old"
    node.stub.remove_pod("first")
    await node.stub.admit("second", {"main": {THING: 2}})
    assert node.stub.merged("second", "main").envs["GREETING"] == "new"


async def test_a_kubelet_that_restarts_during_reloads_has_the_newest_lists(node: Node) -> None:
    await node.start(replicas(2))
    await node.rig.capacity({SHARED: 4})
    await node.stub.admit("pod", {"main": {SHARED: 1}})
    for number in range(3, 8):
        node.write(replicas(number))
        node.hang_up()
        await asyncio.gather(node.stub.restart(), node.told(RELOADED, number - 2))
        await node.rig.allocatable({SHARED: 2 * number})
        assert await node.stub.readmit_all() == []
    assert node.stub.live_streams(SHARED) == 1


async def test_a_vendor_that_cannot_be_made_any_more_degrades_alone(node: Node) -> None:
    await node.start(greeting("hello"), FAILING)
    await node.rig.capacity({THING: 2})
    await node.stub.admit("pod", {"main": {THING: 1}})
    await node.reload(greeting("fail"))
    await node.rig.allocatable({THING: 0})
    _, metrics = await node.daemon.http("/metrics")
    assert 'deviceplugin_vendor_up{vendor="example"} 0.0' in metrics
    await node.reload(greeting("hello"), 2)
    await node.rig.allocatable({THING: 2})
    assert len(node.stub.registrations) == 1


async def test_counters_addresses_and_cordons_outlive_a_reload(node: Node) -> None:
    await node.start(replicas(2))
    await node.rig.capacity({SHARED: 4})
    await node.stub.admit("pod", {"main": {SHARED: 1}})
    cordon = ("cordon", "thing-a", "--reason", "fan", "--state-dir", str(node.rig.state_dir))
    assert (await asyncio.to_thread(run_command, *cordon)).returncode == 0
    await node.rig.allocatable({SHARED: 2})
    lists = node.stub.messages(SHARED)
    await node.reload(replicas(3))
    await node.rig.allocatable({SHARED: 3})
    assert node.stub.messages(SHARED) == lists + 1
    _, metrics = await node.daemon.http("/metrics")
    assert f'deviceplugin_allocations_total{{resource="{SHARED}"}} 1.0' in metrics
    assert len(node.daemon.events("metrics_served")) == 1


async def test_the_log_level_changes_while_the_daemon_runs(node: Node) -> None:
    await node.start("log_level: error")
    await node.rig.capacity({THING: 2})
    assert node.daemon.events() == []
    await node.reload("log_level: info")
    await node.stub.admit("pod", {"main": {THING: 1}})
    await node.daemon.wait_event("allocated")


def loaded(**values: Any) -> tuple[Config, tuple[()]]:
    return Config(node_name="n", **values), ()


async def test_without_inotify_a_change_is_found_by_looking(node: Node) -> None:
    script = 'echo 0 > /proc/sys/user/max_inotify_instances && exec "$@"'
    wrapped = ("unshare", "-Ur", "sh", "-c", script, "sh")
    if await asyncio.to_thread(subprocess.call, [*wrapped, "true"], stderr=subprocess.DEVNULL):
        pytest.skip("no user namespaces here")
    node.rig.wrapper = wrapped
    await node.start(greeting("hello"))
    await node.rig.capacity({THING: 2})
    await node.reload(greeting("bye"))


async def test_fifty_reloads_leave_files_threads_and_memory_as_they_were(
    rig: Rig, nvml: NvmlDouble
) -> None:
    await rig.stub.start()
    path = rig.config("")
    daemon = rig.start("--vendors", "nvidia", "--config", str(path))
    await rig.allocatable({GPU: 6})
    process = psutil.Process(daemon.process.pid)

    async def reload(number: int) -> None:
        path.write_text(f"nvidia: {{pass_device_specs: {'true' if number % 2 else 'false'}}}")
        daemon.process.send_signal(signal.SIGHUP)
        async with asyncio.timeout(WAIT_S):
            while len(daemon.events(RELOADED)) < number:  # noqa: ASYNC110  # a log tells nobody
                await asyncio.sleep(0.01)

    await reload(1)
    threads, files = process.num_threads(), process.num_fds()
    memory = process.memory_info().rss
    for number in range(2, 52):
        await reload(number)
    # a health watch ends within NVML's wait of a second
    await daemon.until(lambda: process.num_threads() <= threads + SPARE, process.num_threads)
    await daemon.until(lambda: process.num_fds() <= files + SPARE, process.num_fds)
    assert process.memory_info().rss - memory < 8 << 20
    nvml.lose(3)  # and the one session that is left still sees what happens
    await rig.allocatable({GPU: 5})
    assert rig.stub.crashes == []


async def test_a_driver_that_hangs_does_not_keep_a_change_away(rig: Rig, nvml: NvmlDouble) -> None:
    await rig.stub.start()
    path = rig.config("")
    daemon = rig.start("--vendors", "nvidia", "--config", str(path))
    await rig.allocatable({GPU: 6})
    nvml.hang("nvmlDeviceGetMemoryInfo", gpu=2)
    path.write_text("log_level: debug")
    await daemon.wait_event(RELOADED)
    await rig.allocatable({GPU: 0})
    nvml.unhang()
    await rig.allocatable({GPU: 6})
    assert rig.stub.log.stream_ends == []

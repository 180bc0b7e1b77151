"""What a third party's health watch reported, when a reload changes or ends the watch."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from deviceplugin.testing.kubelet import KubeletStub
from deviceplugin.testing.tree import write_tree
from tests.rig import DaemonProcess, Rig
from tests.third_party.plugin import WELL_BEHAVED, install

THING = "example.com/thing"
# With `agent` it reports thing-a as sick; without, it watches and has nothing to say.
AGENT = WELL_BEHAVED.replace('    greeting: str = "hello"', "    agent: bool = False").replace(
    "    def container_edits",
    """\
    def watch_health(self, devices, report, stop):
        if self.section.agent:
            kind = FaultClass.RESET
            text = {"source": "example.agent", "code": "sick", "reason": "it says so"}
            report.faults("example.agent", [Fault(device="thing-a", kind=kind, **text)])
        stop.wait()

    def container_edits""",
)
SOURCE = AGENT.replace("Discovery, Fault, frozen", "Discovery, Fault, FaultClass, frozen").replace(
    "self.section.greeting", "'hello'"
)
SETTLED_S = 40.0  # ten seconds on a machine under load


@pytest.fixture
async def rig(short_dir: Path) -> AsyncIterator[Rig]:
    rig = Rig(short_dir)
    async with KubeletStub(short_dir / "k") as rig.stub:
        rig.host_root = short_dir / "root"
        write_tree(rig.host_root, "/dev/example/a c 1:1\n/dev/example/b c 1:2")
        yield rig


async def lists(rig: Rig, expected: set[str], timeout_s: float = SETTLED_S) -> None:
    await rig.stub.wait_registered(THING, timeout_s=timeout_s)
    await rig.stub.wait_for(lambda: rig.healthy(THING) == expected, timeout_s, f"{expected}")


async def test_a_reload_that_switches_the_agent_off_gives_the_device_back(rig: Rig) -> None:
    config = rig.config("example: {agent: true}\nhealth: {hold_s: 0}\n")
    places = install(rig.root / "site", SOURCE)
    daemon: DaemonProcess = rig.start(
        "--vendors", "example", "--config", str(config), PYTHONPATH=places
    )
    try:
        await lists(rig, {"thing-b"})
        config.write_text("example: {agent: false}\nhealth: {hold_s: 0}\n")
        await daemon.wait_event("configuration_reloaded")
        await lists(rig, {"thing-a", "thing-b"})
    finally:
        await daemon.stop()

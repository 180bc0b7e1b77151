"""A node for tests: a tree with the NVML double, a kubelet stub, and the daemon as a process."""

import asyncio
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from msgspec import Struct

from deviceplugin.testing.answers import Merged
from deviceplugin.testing.kubelet import KubeletStub
from tests.fakes.nvml import NvmlDouble, Scenario, a100_40gb, with_nvswitch, write_host_tree

GPU = "nvidia.com/gpu"
MIG_1G, MIG_2G, MIG_3G = (f"nvidia.com/mig-{p}" for p in ("1g.5gb", "2g.10gb", "3g.20gb"))
WAIT_S = 240.0  # ends a test that has failed, on a busy machine, too; no test is about this time
END_S = 60.0
ROUNDS = 6  # a start makes two or three discoveries by itself


def environment() -> dict[str, str]:
    """Ours without any setting of the daemon's own."""
    return {k: v for k, v in os.environ.items() if not k.startswith("DEVICEPLUGIN_")}


def run_command(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """`deviceplugin …`, to its end."""
    return subprocess.run(
        [sys.executable, "-m", "deviceplugin", *arguments],
        capture_output=True,
        text=True,
        timeout=2 * WAIT_S,
        check=False,
        env=environment() | variables,
    )


class DaemonProcess(Struct):
    """`deviceplugin run` with its log; `port` is where it serves metrics, once it does."""

    process: subprocess.Popen[bytes]
    log_path: Path

    @property
    def pid(self) -> int:
        return self.process.pid

    def events(self, name: str | None = None, **fields: object) -> list[dict[str, Any]]:
        """The log's events, those of one name and with these fields if given."""
        whole, _, _ = self.log_path.read_text().rpartition(
            "\n"
        )  # the last one may be being written
        lines = whole.splitlines()
        events = [json.loads(line) for line in lines if line.startswith("{")]
        named = [e for e in events if name is None or e["event"] == name]
        return [e for e in named if fields.items() <= e.items()]

    async def wait_event(
        self, name: str, timeout_s: float = WAIT_S, **fields: object
    ) -> dict[str, Any]:
        """The first event with these fields; raises TimeoutError with the log."""
        try:
            async with asyncio.timeout(timeout_s):
                while not (found := self.events(name, **fields)):  # noqa: ASYNC110  # a file
                    await asyncio.sleep(0.01)
        except TimeoutError as error:
            text = f"no event {name} {fields} in:\n{self.log_path.read_text()[-4000:]}"
            raise TimeoutError(text) from error
        return found[0]

    async def until(
        self, done: Callable[[], object], what: Callable[[], object] = lambda: "done"
    ) -> None:
        """Wait for something of which nobody is told; raises TimeoutError with `what`."""
        try:
            async with asyncio.timeout(WAIT_S):
                while not done():
                    assert self.process.poll() is None, "the daemon has ended"
                    await asyncio.sleep(0.01)
        except TimeoutError as error:
            raise TimeoutError(f"not within {WAIT_S} s: {what()}") from error

    async def shows(self, pattern: str) -> "re.Match[str]":
        """Wait until /metrics has a line like this."""
        text = ""
        try:
            async with asyncio.timeout(WAIT_S):
                while not (found := re.search(pattern, text, re.MULTILINE)):
                    _, text = await self.http("/metrics")
                    await asyncio.sleep(0.05)
        except TimeoutError as error:
            raise TimeoutError(f"no {pattern} in:\n{text}") from error
        return found

    def descriptors(self) -> list[str]:
        """What its open file descriptors lead to."""
        found = []
        for link in Path(f"/proc/{self.pid}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):  # closed since it was listed
                found.append(os.readlink(link))
        return found

    async def http(self, path: str) -> tuple[int, str]:
        """Status and body of the metrics endpoint."""
        address = (await self.wait_event("metrics_served"))["address"]
        return await asyncio.to_thread(fetch, f"http://{address}{path}")

    async def answers(self, path: str, status: int = 200) -> str:
        """Wait until the endpoint gives this status; the body. A probe may meet one slow moment."""
        async with asyncio.timeout(WAIT_S):
            while (answer := await self.http(path))[0] != status:  # noqa: ASYNC110  # it tells nobody
                await asyncio.sleep(0.05)
        return answer[1]

    async def discoveries(self, vendor: str) -> float:
        """How many of the vendor's looks were more than a glance."""
        _, metrics = await self.http("/metrics")
        line = f'deviceplugin_discovery_duration_seconds_count{{vendor="{vendor}"}} '
        return sum(float(x[len(line) :]) for x in metrics.splitlines() if x.startswith(line))

    async def follows_signs(self, vendor: str, sign: Callable[[], Awaitable[None]]) -> None:
        """Wait until ROUNDS times a sign of change brought a discovery: unasked, one comes a
        minute."""
        async with asyncio.timeout(WAIT_S):
            for _ in range(ROUNDS):
                before = await self.discoveries(vendor)
                while await self.discoveries(vendor) == before:
                    await sign()
                    await asyncio.sleep(0.05)

    async def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal; the exit status."""
        self.process.send_signal(number)
        return await asyncio.to_thread(self.process.wait, WAIT_S)

    def end(self) -> None:
        """SIGTERM, and SIGKILL for what does not end by it: a killed process tells no coverage."""
        if self.process.poll() is None:
            self.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(END_S)
        self.kill()

    def kill(self) -> None:
        """End it however it is."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


class Rig:
    """Everything below `root`; `start` starts a daemon against it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.daemons: list[DaemonProcess] = []
        self.wrapper: Sequence[str] = ()  # a command that runs the daemon
        self.host_root = self.root / "host"
        self.kubelet_dir = self.root / "k"
        self.cdi_dir = self.root / "cdi"
        self.state_dir = self.root / "state"
        self.host_root.mkdir()
        self.stub = KubeletStub(self.kubelet_dir)

    def config(self, text: str) -> Path:
        """A configuration file with `text`."""
        path = self.root / "config.yaml"
        path.write_text(text)
        return path

    def start(self, *arguments: str, **variables: str) -> DaemonProcess:
        """The daemon with this rig's directories and any other flags."""
        log_path = self.root / f"daemon-{len(self.daemons)}.log"
        with log_path.open("wb") as log:
            process = subprocess.Popen(
                self.command(*arguments), stderr=log, env=environment() | variables
            )
        daemon = DaemonProcess(process, log_path)
        self.daemons.append(daemon)
        return daemon

    def command(self, *arguments: str) -> list[str]:
        """How the daemon is started with this rig's directories and any other flags."""
        run = [sys.executable, "-m", "deviceplugin", "run", *self._directories(), *arguments]
        return [*self.wrapper, *run]

    def healthy(self, resource: str) -> set[str]:
        """The ids that a pod could get."""
        listed = self.stub.devices(resource).values()
        return {device.id for device in listed if device.health == "Healthy"}

    async def capacity(self, wanted: Mapping[str, int]) -> None:
        """Wait until the node's capacity is exactly this."""
        await self.stub.wait_for(
            lambda: self.stub.capacity() == wanted, timeout_s=WAIT_S, what=f"capacity {wanted}"
        )

    async def allocatable(self, wanted: Mapping[str, int], timeout_s: float = WAIT_S) -> None:
        """Wait until these resources have so many healthy devices, others any number."""
        await self.stub.wait_for(
            lambda: wanted.items() <= self.stub.allocatable().items(),
            timeout_s=timeout_s,
            what=f"allocatable {wanted}",
        )

    async def one_of_each(self, names: Iterable[str]) -> dict[str, Merged]:
        """Admit and end a pod for each resource; what its container was given."""
        given = {}
        for name in names:
            pod = name.replace("/", "-")
            await self.stub.admit(pod, {"main": {name: 1}})
            given[name] = self.stub.merged(pod, "main")
            self.stub.remove_pod(pod)
        return given

    def _directories(self) -> Sequence[str]:
        return (
            *("--host-root", str(self.host_root), "--kubelet-dir", str(self.kubelet_dir)),
            *("--cdi-dir", str(self.cdi_dir), "--state-dir", str(self.state_dir)),
            *("--metrics-address", "127.0.0.1:0", "--node-name", "node-1"),
        )


@contextlib.asynccontextmanager
async def rig_below(directory: Path) -> AsyncIterator[Rig]:
    """An empty node below an existing directory; its daemons end with it."""
    rig = Rig(directory)
    try:
        yield rig
    finally:
        for daemon in rig.daemons:
            await asyncio.to_thread(daemon.end)
        await rig.stub.aclose()


def eight_a100() -> Scenario:
    """Eight A100 on an NVSwitch."""
    return Scenario(gpus=tuple(with_nvswitch([a100_40gb(index) for index in range(8)])))


def boot(host_root: Path, number: int = 1) -> None:
    """Give the node this boot's id."""
    path = host_root / "proc/sys/kernel/random/boot_id"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"00000000-0000-0000-0000-{number:012d}\n")


def two_a100(root: Path) -> NvmlDouble:
    """Two A100 and their files below `root`."""
    double = NvmlDouble(root, scenario=Scenario(gpus=(a100_40gb(0), a100_40gb(1))))
    write_host_tree(root, double.scenario)
    return double


def nvidia_node(rig: Rig) -> NvmlDouble:
    """Eight A100 of which 6 and 7 are cut into MIG instances."""
    double = NvmlDouble(rig.host_root, scenario=eight_a100())
    double.set_mig(6, ["3g.20gb", "2g.10gb", "1g.5gb", "1g.5gb"])
    double.set_mig(7, ["1g.5gb"] * 7)
    write_host_tree(rig.host_root, double.scenario)
    return double


def fetch(url: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(url, timeout=WAIT_S) as answer:  # noqa: S310  # our own http URL
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()

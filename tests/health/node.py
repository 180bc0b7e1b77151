"""A node of which the tests of health look at faults, cordons and the daemon's log."""

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deviceplugin.testing.kubelet import KubeletStub
from tests.fakes.nvml import NvmlDouble
from tests.rig import GPU, WAIT_S, DaemonProcess, Rig, boot, run_command


class Node:
    """NVIDIA GPUs below `base`; `daemon` is the newest process."""

    def __init__(self, base: Path, double: NvmlDouble, kubelet: KubeletStub) -> None:
        self.base, self.double, self.kubelet = base, double, kubelet
        self.daemon: DaemonProcess | None = None
        self.rig = Rig(self.base)
        self.rig.host_root, self.rig.stub = self.root, self.kubelet

    @property
    def root(self) -> Path:
        return self.base / "root"

    @property
    def state(self) -> Path:
        return self.rig.state_dir

    def boot(self, number: int) -> None:
        boot(self.root, number)

    def configure(self, **health: object) -> None:
        self.config = self.rig.config(json.dumps({"health": health}))

    async def start(
        self, vendors: str = "nvidia", environ: Mapping[str, str] | None = None
    ) -> None:
        flags = ("--config", str(self.config), "--vendors", vendors)
        self.daemon = self.rig.start(*flags, **(environ or {}))

    async def stop(self) -> None:
        if self.daemon is not None:
            await self.daemon.stop()

    async def logged(
        self, event: str, timeout_s: float = WAIT_S, **fields: object
    ) -> dict[str, Any]:
        """Wait for a log event of the newest daemon; those already there count."""
        assert self.daemon is not None
        return await self.daemon.wait_event(event, timeout_s, **fields)

    def found(self, event: str, **fields: object) -> list[dict[str, Any]]:
        """The events of this name with these fields in the newest daemon's log."""
        assert self.daemon is not None
        return [told for told in self.daemon.events(event) if fields.items() <= told.items()]

    async def command(self, *arguments: str) -> tuple[int, str]:
        """Exit status and output of an operator's command."""
        state = f"--state-dir={self.state}"
        done = await asyncio.to_thread(run_command, *arguments, state)
        return done.returncode, done.stdout + done.stderr

    def healthy(self, resource: str = GPU) -> set[str]:
        return self.rig.healthy(resource)

    async def lists(
        self, expected: set[str], resource: str = GPU, timeout_s: float = WAIT_S
    ) -> None:
        """Wait until exactly these ids are listed Healthy to this kubelet's live stream."""
        await self.kubelet.wait_registered(resource, timeout_s=timeout_s)
        await self.kubelet.wait_for(
            lambda: self.healthy(resource) == expected, timeout_s, f"{sorted(expected)} healthy"
        )

"""A run against one driver: its life, claims that the scheduler allocated, calls, waiting."""

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Protocol

import grpc
from msgspec import Struct

from deviceplugin.pb import dra_v1_pb2 as draapi
from deviceplugin.testing.apiserver import ApiServer
from deviceplugin.testing.conformance.losses import LostError
from deviceplugin.testing.dra import ClaimName, DraKubelet, Driver, RefusedError

POLL_S = 0.01
WAIT_S = 30.0
Devices = Sequence[draapi.Device]


class Subject(Protocol):
    """A driver that the suite can start and end on a node of its own, as often as it likes.

    Its API server is `api`, below `kubelet_dir` are the kubelet's directories. `start` returns when
    it is started, not when it serves. `fail` makes a device fail, None mends all; `reboot` gives
    the node another boot id. Both say whether that can be done here.
    """

    api: ApiServer
    kubelet_dir: Path
    cdi_dir: Path
    state_dir: Path

    async def start(self) -> None:
        """A process begins."""

    async def end(self) -> None:
        """It ends as by SIGTERM."""

    async def kill(self) -> None:
        """It is gone without a last word."""

    def another(self) -> "Subject":
        """A second instance on the same node."""

    def fail(self, device: str | None) -> bool:
        """A device fails."""

    def reboot(self) -> bool:
        """The node has another boot id; the driver is not running."""


class Refused(Struct, frozen=True):
    """A Prepare or Unprepare that ended with an error."""

    text: str


class Session:
    """What the checks work with. Times are seconds, `slack` stretches every limit."""

    def __init__(self, subject: Subject, slack: float) -> None:
        self.subject, self.api, self.slack = subject, subject.api, slack
        self.kubelet = DraKubelet(subject.kubelet_dir)
        self.errors: list[str] = []
        self.longest_s = 0.0
        self._numbers = itertools.count(1)

    async def wait(self, done: Callable[[], object], limit_s: float = WAIT_S) -> bool:
        """Whether something came to be in time."""
        end_s = time.monotonic() + limit_s * self.slack
        while not done():
            if time.monotonic() > end_s:
                return False
            await asyncio.sleep(POLL_S)
        return True

    async def need(self, done: Callable[[], object], what: str) -> None:
        """Wait for what nothing can be judged without; raises LostError."""
        if not await self.wait(done):
            raise LostError(f"not within {WAIT_S * self.slack:g} s: {what}")

    async def rest(self, seconds: float) -> None:
        """Let what may happen happen."""
        await asyncio.sleep(seconds)

    @asynccontextmanager
    async def running(self, subject: Subject | None = None) -> AsyncIterator[Driver]:
        """The driver, started, registered, published; ended as by SIGTERM."""
        subject = subject or self.subject
        await subject.start()
        try:
            async with self.registered() as driver:
                await self.need(lambda: self.api.devices, "a complete pool with devices")
                yield driver
        finally:
            await subject.end()

    @asynccontextmanager
    async def registered(self) -> AsyncIterator[Driver]:
        """The driver as a kubelet finds it that starts now; raises LostError."""
        await self.need(self.kubelet.sockets, "a registration socket")
        try:
            async with self.kubelet.driver(self.kubelet.sockets()[0]) as driver:
                yield driver
        except grpc.RpcError as error:
            raise LostError(f"the driver does not answer: {error}") from error

    def claim(self, devices: Sequence[str], **result: object) -> ClaimName:
        """A claim to which the scheduler has given these devices."""
        number = next(self._numbers)
        name = ClaimName(uid=f"uid-{number:04}", name=f"claim-{number}")
        self.api.allocate(name.name, name.uid, devices, **result)
        return name

    def administers(self, claim: ClaimName) -> None:
        """It has admin access to what it was given."""
        document = self.api.claims[claim.namespace, claim.name]
        for result in document["status"]["allocation"]["devices"]["results"]:
            result["adminAccess"] = True

    def delete(self, claim: ClaimName) -> None:
        """The object is gone."""
        self.api.claims.pop((claim.namespace, claim.name), None)

    async def prepare(self, driver: Driver, claim: ClaimName) -> Devices | Refused:
        """The devices, or why there are none."""
        started_s = time.monotonic()
        try:
            found: Devices | Refused = (await driver.prepare(claim)).get(claim.uid, ())
        except RefusedError as error:
            self.errors.append(str(error))
            found = Refused(str(error))
        except grpc.RpcError as error:
            found = Refused(f"{error}")
        self.longest_s = max(self.longest_s, time.monotonic() - started_s)
        return found

    async def unprepare(self, driver: Driver, *claims: ClaimName) -> str:
        """Why any was refused, empty where none was."""
        found = []
        for claim in claims:
            try:
                await driver.unprepare(claim)
            except RefusedError as error:
                self.errors.append(str(error))
                found.append(str(error))
            except grpc.RpcError as error:
                found.append(f"{error}")
        return "; ".join(found)

    @property
    def names(self) -> list[str]:
        """The devices that a claim may have now, in their order."""
        return [name for name, one in self.api.devices.items() if not one.get("taints")]


def told(found: Devices | Refused) -> list[tuple[str, ...]]:
    """What an answer says, for comparing."""
    if isinstance(found, Refused):
        return [("refused", found.text)]
    return [
        (one.pool_name, one.device_name, *one.request_names, *one.cdi_device_ids) for one in found
    ]

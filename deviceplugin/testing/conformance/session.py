"""A run of the suite against one plugin: the kubelet, the plugin's process, calls, waiting."""

import asyncio
import contextlib
import signal
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import grpc
import psutil

from deviceplugin.kubelet.socket import is_listening
from deviceplugin.pb import deviceplugin_v1beta1_pb2 as pluginapi
from deviceplugin.testing.conformance.losses import DiedError, HangingError, LostError, shown
from deviceplugin.testing.conformance.process import End, Instance, Usage, usage_of
from deviceplugin.testing.conformance.record import Record
from deviceplugin.testing.conformance.settings import Settings
from deviceplugin.testing.conformance.view import Topology, View
from deviceplugin.testing.kubelet import KubeletStub
from deviceplugin.testing.plugin_client import PluginClient, RpcError

END_S = 20.0
SETTLE_PARTS = 10
# The end of a process reaches the caller before it reaches the streams, or the other way round.
GONE_S = 1.0
VAIN_STARTS = 5
POLL_S = 0.05
FULL_S = 10.0  # a list that grows later than that is judged as it is
MAY_BE_GONE = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)


class Session(View):
    """The kubelet stub below settings.kubelet_dir, and the plugin that registers with it."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.stub = KubeletStub(settings.kubelet_dir)
        self.stub.register_knobs.dial_timeout_s = settings.dial_timeout_s
        self.record = Record(self.stub.socket_dir)
        self.stub.log.listeners.append(self.record)
        self.plugin: Instance | None = None
        self.names: tuple[str, ...] = ()
        self.stocked: tuple[str, ...] = ()  # those that had healthy devices when it had settled
        self.ends: list[End] = []
        self.blamed = 0
        self._started = 0

    # The plugin's process

    async def start_plugin(self) -> Instance:
        """Start the plugin's command; LostError where it cannot be."""
        command = self.settings.command
        instance = Instance(command, self._next_log, self.settings.restart_s, self._note_end)
        self.record.knows_the_process = True
        self.record.excuse()
        try:
            await instance.start()
        except OSError as error:
            raise LostError(f"{command[0]} cannot be started: {error}") from error
        return instance

    async def restart_plugin(self, number: signal.Signals) -> None:
        """End the running plugin by a signal, start it again, and wait until all is listed."""
        if self.plugin is not None:
            await self.plugin.end(number, END_S)
        at_s = time.monotonic()
        self.plugin = await self.start_plugin()
        await self.wait(  # not is_listed: the old instance's streams may not have ended yet
            lambda: all(self.opened_since(at_s, name) for name in self.names),
            "not registered again after a restart of the plugin",
        )
        await self.wait_all("after a restart of the plugin")

    def unblamed(self) -> list[End]:
        """The plugin's own ends that no line has been blamed for; they are blamed now."""
        fresh, self.blamed = self.ends[self.blamed :], len(self.ends)
        return fresh

    def _note_end(self, end: End) -> bool:
        """Whether to start it again: not one that ends again and again beside a kubelet."""
        self.ends.append(end)
        self.record.note_end(end.at_s)
        self.stub.notify()
        last_s = max((opened.at_s for opened in self.record.opened[-1:]), default=0.0)
        since_s = max(last_s, self.stub.started_at_s or 0.0)
        vain = sum(end.at_s > since_s for end in self.ends)
        return vain < VAIN_STARTS or not is_listening(self.stub.kubelet_socket)

    def _next_log(self) -> Path:
        self._started += 1
        return self.settings.kubelet_dir / f"conformance-plugin-{self._started}.log"

    def usage(self) -> Usage | None:
        """What the plugin holds open, None where its process is not known or not ours to see."""
        pid = self.plugin.pid if self.plugin else self.settings.pid
        try:
            return usage_of(pid) if pid else None
        except psutil.Error:
            return None

    # The kubelet

    async def start_kubelet(self) -> None:
        """Start the kubelet, which removes the sockets at the top level."""
        if self.stub.socket_dir.is_dir():
            self.record.removes_sockets(*self.stub.socket_dir.glob("*.sock"))
        await self.stub.start()

    async def restart_kubelet(self, down_s: float = 0.0) -> None:
        """Restart the kubelet, which removes the sockets at the top level."""
        self.record.removes_sockets(*self.stub.socket_dir.glob("*.sock"))
        await self.stub.restart(down_s=down_s)

    async def disconnect(self, resource: str) -> None:
        """Drop the plugin's connection, as the kubelet does."""
        self.record.excuse(resource)
        await self.stub.disconnect(resource)

    # Waiting

    async def wait_settled(self) -> None:
        """Until the resources wanted are listed and nothing new has come for a while."""
        wanted = self.settings.resources
        if wanted:
            await self.wait(lambda: all(map(self.is_listed, wanted)), f"no list of {wanted}")
        else:
            await self.wait(lambda: self.record.listed, "no plugin registered and sent a list")
        seen, deadline_s = -1, time.monotonic() + self.settings.timeout_s
        while seen != len(self.record.happenings) and time.monotonic() < deadline_s:
            seen = len(self.record.happenings)
            await self.settle()
        self.names = tuple(name for name in sorted(self.stub.capacity()) if self.is_listed(name))
        self.stocked = tuple(name for name in self.names if self.healthy(name))

    async def settle(self) -> None:
        """Give what is about to happen its time, in parts: a machine that stands still for a
        moment takes one of them."""
        for _ in range(SETTLE_PARTS):
            await asyncio.sleep(self.settings.settle_s / SETTLE_PARTS)

    async def wait_all(self, when: str) -> None:
        """Until every resource is registered and listed with the kubelet that runs."""
        await self.wait(
            lambda: all(map(self.is_listed, self.names)), f"not registered again {when}"
        )
        await self._wait_stocked()

    async def _wait_stocked(self) -> None:
        """Give a first list that is empty (line 21) the time to grow: it hides nothing else."""
        with contextlib.suppress(TimeoutError):
            await self.stub.wait_for(lambda: all(map(self.healthy, self.stocked)), self._grown_s)

    async def topology_again(self, known: Topology) -> Topology:
        """What is listed now, once it is what was known or has had the time to become it."""
        with contextlib.suppress(TimeoutError):
            await self.stub.wait_for(lambda: self.topology() == known, self._grown_s)
        return self.topology()

    @property
    def _grown_s(self) -> float:
        return min(FULL_S, self.settings.timeout_s)

    async def wait(self, predicate: Callable[[], object], otherwise: str) -> None:
        """Until the predicate is true; LostError with `otherwise` after the timeout."""
        timeout_s = self.settings.timeout_s
        try:
            await self.stub.wait_for(lambda: predicate() or self._is_down(), timeout_s)
        except TimeoutError as error:
            raise LostError(f"{otherwise} within {timeout_s:g} s") from error
        if not predicate():
            raise LostError(f"{otherwise}, and it is not started again")

    async def is_well(self) -> bool:
        """Whether every resource is listed and its socket answers."""
        for name in self.names:
            if not self.is_listed(name):
                return False  # the list of a plugin that is gone may still be there
            try:
                await self._client(name).options(self.settings.call_timeout_s)
            except (RpcError, LostError):
                return False
        return True

    async def wait_well(self) -> None:
        """Until all is well; LostError after the timeout, or where nobody starts it again."""
        timeout_s = self.settings.timeout_s
        try:
            async with asyncio.timeout(timeout_s):
                while not await self.is_well():
                    if self._is_down():
                        raise LostError("it is not started again")
                    await asyncio.sleep(POLL_S)
        except TimeoutError as error:
            raise LostError(f"not well again within {timeout_s:g} s") from error

    def _is_down(self) -> bool:
        return self.plugin is not None and self.plugin.is_down

    async def recover(self) -> bool:
        """Bring a lost plugin back by what moves any plugin: a new kubelet, a new process."""
        for again in (self._new_kubelet, self._new_plugin):
            try:
                await again()
            except LostError:
                continue
            return True
        return False

    async def _new_kubelet(self) -> None:
        self.stub.register_knobs.refuse_next.clear()
        if not await self.is_well():
            await self.restart_kubelet()
        await self.wait_well()
        await self._wait_stocked()

    async def _new_plugin(self) -> None:
        if self.plugin is None:
            raise LostError("the suite cannot start the plugin")
        await self.restart_plugin(signal.SIGKILL)

    # Calls

    async def allocate(
        self, resource: str, *requests: Sequence[str]
    ) -> pluginapi.AllocateResponse | RpcError:
        """Allocate with a container request for each list of ids; HangingError, DiedError."""
        self.record.touch(time.monotonic())
        request = pluginapi.AllocateRequest()
        for ids in requests:
            request.container_requests.add(devices_ids=ids)
        answer: pluginapi.AllocateResponse | RpcError = await self.call(
            resource, "Allocate", request, pluginapi.AllocateResponse
        )
        return answer

    async def prefer(
        self, resource: str, available: Iterable[str], must_include: Iterable[str], size: int
    ) -> list[str] | RpcError:
        """GetPreferredAllocation: the ids as they came; HangingError, DiedError."""
        request = pluginapi.PreferredAllocationRequest()
        request.container_requests.add(
            available_deviceIDs=available, must_include_deviceIDs=must_include, allocation_size=size
        )
        answer: pluginapi.PreferredAllocationResponse | RpcError = await self.call(
            resource, "GetPreferredAllocation", request, pluginapi.PreferredAllocationResponse
        )
        if isinstance(answer, RpcError):
            return answer
        return [name for one in answer.container_responses[:1] for name in one.deviceIDs]

    # Any: protobuf messages have no common typed base
    async def call(self, resource: str, method: str, request: Any, answer: Any) -> Any:
        """A call on the kubelet's own connection: the answer, or the error as a value.

        HangingError where it takes longer than the call's timeout. DiedError where the plugin is
        gone afterwards, once it is back or has been waited for.
        """
        timeout_s, started_s = self.settings.call_timeout_s, time.monotonic()
        client = self._client(resource)
        try:
            return await client.call(method, request, answer, timeout_s)
        except RpcError as error:
            # the plugin's own deadline has the same code, but comes earlier
            is_ours = time.monotonic() - started_s >= timeout_s
            if error.code is grpc.StatusCode.DEADLINE_EXCEEDED and is_ours:
                raise HangingError(f"{resource}: {method} hangs for {timeout_s:g} s") from error
            if await self._is_gone(client, error):
                raise await self._died(client, f"{method} {shown(request)}", error) from error
            return error

    async def _is_gone(self, client: PluginClient, error: RpcError) -> bool:
        """Whether the connection that failed is not the kubelet's any more."""
        if error.code not in MAY_BE_GONE or (self.plugin and self.plugin.is_leaving):
            return False
        with contextlib.suppress(TimeoutError):
            await self.stub.wait_for(lambda: not self._is_current(client), GONE_S)
        return not self._is_current(client)

    def _is_current(self, client: PluginClient) -> bool:
        endpoint = self.stub.manager.endpoints.get(client.resource)
        return bool(endpoint and endpoint.client is client and endpoint.stopped_at_s is None)

    async def _died(self, client: PluginClient, call: str, error: RpcError) -> DiedError:
        is_back = True
        try:
            await self.wait_well()
        except LostError:
            is_back = False
        ends = self.unblamed()
        text = str(ends[0]) if ends else f"its connections broke: {error.detail}"
        return DiedError(f"{client.resource}: {call}: {text}", is_back=is_back)

    def _client(self, resource: str) -> PluginClient:
        endpoint = self.stub.manager.endpoints.get(resource)
        if endpoint is None or endpoint.client is None or endpoint.stopped_at_s is not None:
            raise LostError(f"{resource} is not registered")
        return endpoint.client

"""Plugins with one defect each, and the lines that each has to fail.

`python -m tests.conformance.defects DIR STATE [DEFECT]` runs one, the complete one without a name.
"""

import asyncio
import json
import os
import random
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from pathlib import Path
from queue import Queue
from threading import Event, Lock, Thread
from typing import Any, NoReturn

import grpc
import grpc.aio
from google.protobuf.internal.containers import RepeatedCompositeFieldContainer
from msgspec import Struct

from deviceplugin.kubelet.podresources import PodResources
from deviceplugin.kubelet.socket import is_listening, read_identity
from deviceplugin.pb import deviceplugin_v1beta1_pb2 as pluginapi
from deviceplugin.resources.ledger import HoldersUnknownError
from tests.conformance.smallplugin import POLL_S, Context, Plugin, main

PREFER, ALLOCATE, RESTART, BREAK, CHANGE, KILL = 38, 44, 9, 27, 14, 5  # a line of each stage
STRETCHED = 100.0  # limits that no busy machine misses
VAIN_S, HANGS_S = 5.0, 4.0  # what never comes is not waited for as long as what does
PROCESS_S = 20.0  # where a process that does come is waited for, too
Answer = pluginapi.ContainerAllocateResponse
Answers = RepeatedCompositeFieldContainer[Answer]
Requests = RepeatedCompositeFieldContainer[pluginapi.ContainerAllocateRequest]
NOT_UTF8 = b"\x0a\x03\x0a\x01\xff"


class Defect(Struct, frozen=True):
    """A plugin that fails `fails`, may fail `may`; `stage` is a line of the stage that shows it.

    The suite waits for it for `timeout_s`, and for each of its answers for `call_timeout_s`.
    """

    make: type[Plugin]
    fails: set[int]
    stage: int
    may: frozenset[int] = frozenset()
    slack: float = STRETCHED
    timeout_s: float = 30.0
    call_timeout_s: float = 10.0
    early_s: float = 0.3
    settle_s: float = 0.1
    up_s: float = 1.5


DEFECTS: dict[str, Defect] = {}


def defect(
    stage: int, *fails: int, may: tuple[int, ...] = (), **limits: float
) -> Callable[[type[Plugin]], type[Plugin]]:
    """Put a plugin into the table, under its own name."""

    def add(make: type[Plugin]) -> type[Plugin]:
        DEFECTS[make.__name__] = Defect(make, set(fails), stage, frozenset(may), **limits)
        return make

    return add


# -- Registration -----------------------------------------------------------------------------


@defect(13, 1)
class RegistersBeforeServing(Plugin):
    async def run(self) -> None:
        while not is_listening(self.kubelet):
            await asyncio.sleep(POLL_S)
        with suppress(grpc.aio.AioRpcError):
            await self.register()  # until the kubelet gives up: serving earlier might be in time
        await super().run()


@defect(13, 2, 18, timeout_s=VAIN_S)
class HasNoOptionsWhileItRegisters(Plugin):
    async def GetDevicePluginOptions(
        self, _: object, context: Context
    ) -> pluginapi.DevicePluginOptions:
        await context.abort(grpc.StatusCode.UNAVAILABLE, "busy registering")


@defect(13, 3, 18, timeout_s=VAIN_S)
class SendsAnAbsoluteEndpoint(Plugin):
    def request(self) -> pluginapi.RegisterRequest:
        request = super().request()
        request.endpoint = str(self.socket)
        return request


@defect(13, 3, 18, timeout_s=VAIN_S)
class SendsAnotherVersion(Plugin):
    def request(self) -> pluginapi.RegisterRequest:
        request = super().request()
        request.version = "v1alpha1"
        return request


@defect(13, 3)
class RegistersWithAShortDeadline(Plugin):
    async def register(self, timeout_s: float = 5.0) -> None:
        await super().register(timeout_s)


@defect(13, 6, 18, timeout_s=VAIN_S)
class RegistersABadName(Plugin):
    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.resource = self.kind


@defect(13, 7)
class AnnouncesOtherOptions(Plugin):
    def request(self) -> pluginapi.RegisterRequest:
        request = super().request()
        request.options.Clear()
        return request


@defect(8, 8, timeout_s=VAIN_S)
class GivesUpAfterARefusal(Plugin):
    async def register(self, timeout_s: float = 12.0) -> None:
        try:
            await super().register(timeout_s)
        except grpc.aio.AioRpcError:
            await asyncio.Future()


@defect(RESTART, 9, timeout_s=VAIN_S)
class IgnoresANewKubelet(Plugin):
    registered = False

    def wants_registration(self) -> bool:
        return not self.registered and super().wants_registration()

    async def register(self, timeout_s: float = 12.0) -> None:
        await super().register(timeout_s)
        self.registered = True


@defect(RESTART, 9, 10, slack=1.0)
class WaitsOutABackoff(Plugin):
    registered = False

    async def register(self, timeout_s: float = 12.0) -> None:
        if self.registered:
            await asyncio.sleep(0.8)
        await super().register(timeout_s)
        self.registered = True


@defect(11, 11, timeout_s=VAIN_S)
class KeepsALostSocket(Plugin):
    async def run(self) -> None:
        server = await self.serve()
        while server:
            if self.wants_registration():
                await self.register_again()
            await asyncio.sleep(POLL_S)


@defect(12, 12, slack=1.0)
class RegistersByATimerOfItsOwn(Plugin):
    """Which falls within the second after the first stream's end, but not after the next."""

    ended_s: float | None = None
    pauses_s = (0.0, 0.2, 1.5, 1.5)
    count = 0

    def wants_registration(self) -> bool:
        if not super().wants_registration():
            self.ended_s = None
            return False
        self.ended_s = self.ended_s or time.monotonic()
        return time.monotonic() > self.ended_s + self.pauses_s[min(self.count, 3)]

    async def register(self, timeout_s: float = 12.0) -> None:
        await super().register(timeout_s)
        self.count += 1


@defect(12, 12, timeout_s=VAIN_S)
class WatchesTheKubeletsSocketOnly(Plugin):
    known = None

    def wants_registration(self) -> bool:
        self.registered_with = self.known
        return super().wants_registration()

    async def register_again(self) -> None:
        await super().register_again()
        self.known = self.registered_with


@defect(13, 13)
class RegistersTwice(Plugin):
    async def register(self, timeout_s: float = 12.0) -> None:
        await super().register(timeout_s)
        await super().register(timeout_s)


@defect(13, 13)
class RegistersAfterEveryChangeOfTheDirectory(Plugin):
    seen = 0

    def wants_registration(self) -> bool:
        before, self.seen = self.seen, self.directory.stat().st_mtime_ns
        return super().wants_registration() or self.seen != before


@defect(13, 13, timeout_s=1.0, settle_s=0.5)
class RegistersNowAndAgain(Plugin):
    """It ends its stream before: there are never two."""

    def wants_registration(self) -> bool:
        late = time.monotonic() > self.registered_s + 0.3
        return super().wants_registration() or (late and is_listening(self.kubelet))


@defect(13, 13, timeout_s=1.0, settle_s=0.5)
class MakesItsServerAnewNowAndAgain(Plugin):
    """The kubelet sees its connection break."""

    async def serve(self) -> grpc.aio.Server:
        server = await super().serve()
        self.task = asyncio.create_task(self._later())
        return server

    async def _later(self) -> None:
        await asyncio.sleep(0.3)
        self.registered_with = None
        self.socket.unlink(missing_ok=True)


@defect(13, 20, 25)
class SharesOneSocket(Plugin):
    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.endpoint = "small/gpu.sock"

    async def run(self) -> None:
        if self.kind == "gpu":
            await super().run()
        while not is_listening(self.socket) or not is_listening(self.kubelet):
            await asyncio.sleep(POLL_S)
        await self.register()


# -- ListAndWatch -----------------------------------------------------------------------------


@defect(13, 21, slack=10.0)
class ListsLate(Plugin):
    async def ListAndWatch(
        self, request: object, context: Context
    ) -> AsyncIterator[pluginapi.ListAndWatchResponse]:
        await asyncio.sleep(1.3)
        async for message in super().ListAndWatch(request, context):
            yield message


class Hesitates(Plugin):
    hesitates_s = 0.05

    def first(self) -> list[pluginapi.Device] | None:
        """What is listed before all is."""
        return []

    async def ListAndWatch(
        self, request: object, context: Context
    ) -> AsyncIterator[pluginapi.ListAndWatchResponse]:
        if (first := self.first()) is not None:
            yield pluginapi.ListAndWatchResponse(devices=first)
            await asyncio.sleep(self.hesitates_s)
        async for message in super().ListAndWatch(request, context):
            yield message


@defect(13, 21)
class ListsNothingFirst(Hesitates):
    pass


@defect(13, 21)
class ListsOneDeviceFirst(Hesitates):
    def first(self) -> list[pluginapi.Device]:
        return self.devices()[:1]


@defect(13, 21)
class ListsAllUnhealthyFirst(Hesitates):
    def first(self) -> list[pluginapi.Device]:
        return [pluginapi.Device(ID=name, health="Unhealthy") for name in self.ids()]


@defect(RESTART, 21)
class ListsOneDeviceFirstAfterARestart(Hesitates):
    count = 0
    hesitates_s = 0.5  # longer than the suite lets things settle

    def first(self) -> list[pluginapi.Device] | None:
        self.count += 1
        return self.devices()[:1] if self.count > 1 else None


@defect(RESTART, 21)
class ListsNothingForAWhileAfterARestart(ListsOneDeviceFirstAfterARestart):
    def first(self) -> list[pluginapi.Device] | None:
        return None if super().first() is None else []


@defect(13, 22)
class HasWordsOfItsOwnForHealth(Plugin):
    def device(self, name: str) -> pluginapi.Device:
        device = super().device(name)
        device.health = device.health.lower()
        return device


@defect(13, 23)
class ListsAnIdTwice(Plugin):
    def devices(self) -> list[pluginapi.Device]:
        return [*super().devices(), super().devices()[0]]


@defect(RESTART, 24)
class NumbersItsDevicesAnew(Plugin):
    count = 0

    async def register(self, timeout_s: float = 12.0) -> None:
        self.count += 1
        await super().register(timeout_s)

    def ids(self) -> list[str]:
        return [f"{name}-{self.count}" for name in super().ids()]


@defect(13, 25)
class UsesAnIdInTwoResources(Plugin):
    def ids(self) -> list[str]:
        return ["0", "1", "2"]


@defect(13, 26)
class HasSpacesInIds(Plugin):
    def ids(self) -> list[str]:
        return [f"{name} of 3" for name in super().ids()]


@defect(13, 26)
class HasLongIds(Plugin):
    def ids(self) -> list[str]:
        return [name.ljust(64, "x") for name in super().ids()]


@defect(13, 30)
class SendsAnUnchangedList(Plugin):
    async def ListAndWatch(
        self, request: object, context: Context
    ) -> AsyncIterator[pluginapi.ListAndWatchResponse]:
        yield self.message()
        await asyncio.sleep(0.05)
        async for message in super().ListAndWatch(request, context):
            yield message


@defect(13, 32, 18, timeout_s=VAIN_S)
class ListsMoreThanFits(Plugin):
    def message(self) -> pluginapi.ListAndWatchResponse:
        if self.large is None:
            ids = (str(number).rjust(63, "x") for number in range(60_000))
            self.large = pluginapi.ListAndWatchResponse(
                devices=[pluginapi.Device(ID=name, health="Healthy") for name in ids]
            )
        return self.large

    large: pluginapi.ListAndWatchResponse | None = None


@defect(13, 33)
class GivesSomeDevicesATopology(Plugin):
    def devices(self) -> list[pluginapi.Device]:
        devices = super().devices()
        devices[0].ClearField("topology")
        return devices


@defect(13, 33)
class GivesAnEmptyTopology(Plugin):
    def device(self, name: str) -> pluginapi.Device:
        device = super().device(name)
        device.topology.ClearField("nodes")
        return device


@defect(13, 33)
class GivesANegativeNode(Plugin):
    def device(self, name: str) -> pluginapi.Device:
        device = super().device(name)
        device.topology.nodes[0].ID = -1
        return device


@defect(13, 34)
class NamesANodeTwice(Plugin):
    def device(self, name: str) -> pluginapi.Device:
        device = super().device(name)
        device.topology.nodes.add(ID=0)
        return device


@defect(13, 18, 59, timeout_s=VAIN_S)
class ListsBytesThatAreNotUtf8(Plugin):
    async def serve(self) -> grpc.aio.Server:
        server = await super().serve()
        await server.stop(None)
        server = grpc.aio.server()
        options = grpc.unary_unary_rpc_method_handler(
            self.GetDevicePluginOptions,
            request_deserializer=pluginapi.Empty.FromString,
            response_serializer=pluginapi.DevicePluginOptions.SerializeToString,
        )
        methods = {
            "GetDevicePluginOptions": options,
            "ListAndWatch": grpc.unary_stream_rpc_method_handler(self._bytes),
        }
        handler = grpc.method_handlers_generic_handler("v1beta1.DevicePlugin", methods)
        server.add_generic_rpc_handlers((handler,))
        server.add_insecure_port(f"unix:{self.socket}")
        await server.start()
        return server

    async def _bytes(self, _: object, context: Context) -> AsyncIterator[bytes]:
        yield NOT_UTF8
        await asyncio.Future()


# -- Failures ---------------------------------------------------------------------------------


@defect(BREAK, 27, 29, may=(28,))
class LeavesOutWhatFailed(Plugin):
    def devices(self) -> list[pluginapi.Device]:
        return [device for device in super().devices() if device.health == "Healthy"]


@defect(BREAK, 27, 29, 37, may=(28,))
class ListsNothingAfterAFailure(Plugin):
    def devices(self) -> list[pluginapi.Device]:
        return [] if self.broken() else super().devices()


@defect(BREAK, 31, slack=1.0)
class TellsTheFirstStreamOnly(Plugin):
    async def ListAndWatch(
        self, request: object, context: Context
    ) -> AsyncIterator[pluginapi.ListAndWatchResponse]:
        if self.streams:
            yield self.message()
            await asyncio.Future()
        async for message in super().ListAndWatch(request, context):
            yield message


@defect(BREAK, 36, timeout_s=VAIN_S)
class NeverRecovers(Plugin):
    was_broken: frozenset[str] = frozenset()

    def broken(self) -> set[str]:
        self.was_broken |= super().broken()
        return set(self.was_broken)


@defect(BREAK, 69, timeout_s=VAIN_S)
class NoticesNoFailure(Plugin):
    def broken(self) -> set[str]:
        return set()


@defect(BREAK, 37)
class TakesAnotherResourceDown(Plugin):
    def broken(self) -> set[str]:
        found = super().broken()
        return set(self.ids()) if found and self.kind == "nic" else found


@defect(BREAK, 37)
class TakesEverythingDown(Plugin):
    def broken(self) -> set[str]:
        return set(self.ids()) if super().broken() else set()


@defect(BREAK, 45, slack=1.0)
class RefusesWhatFailedSlowly(Plugin):
    async def Allocate(
        self, request: pluginapi.AllocateRequest, context: Context
    ) -> pluginapi.AllocateResponse:
        if self.broken() & {name for one in request.container_requests for name in one.devices_ids}:
            await asyncio.sleep(0.3)
        return await super().Allocate(request, context)


@defect(BREAK, 69, slack=1.0)
class NoticesLate(Plugin):
    def broken(self) -> set[str]:
        found = super().broken()
        if not found:
            self.since = None
            return set()
        now = asyncio.get_running_loop().time()
        self.since = self.since or now
        return found if now - self.since > 3 else set()

    since: float | None = None


@defect(BREAK, 47)
class AllocatesWhatFailed(Plugin):
    async def Allocate(
        self, request: pluginapi.AllocateRequest, context: Context
    ) -> pluginapi.AllocateResponse:
        answers = [self.answer(list(one.devices_ids)) for one in request.container_requests]
        return pluginapi.AllocateResponse(container_responses=answers)


@defect(ALLOCATE)
class HasNoHealthyDevice(Plugin):
    """No line fails, and none about Allocate can be judged."""

    def broken(self) -> set[str]:
        return set(self.ids())


# -- GetPreferredAllocation -------------------------------------------------------------------


@defect(PREFER, 38)
class PrefersOneLess(Plugin):
    def choose(self, available: Sequence[str], must: Sequence[str], size: int) -> list[str]:
        return super().choose(available, must, size)[: max(size - 1, 0)]


@defect(PREFER, 38)
class PrefersWhatIsNotAvailable(Plugin):
    def choose(self, available: Sequence[str], must: Sequence[str], size: int) -> list[str]:
        chosen = super().choose(available, must, size)
        return [*chosen[:-1], "elsewhere"] if chosen else []


@defect(PREFER, 38)
class ForgetsWhatMustBeIn(Plugin):
    def choose(self, available: Sequence[str], must: Sequence[str], size: int) -> list[str]:
        return super().choose(available, (), size)


@defect(PREFER, 38)
class PrefersOneDeviceTwice(Plugin):
    def choose(self, available: Sequence[str], must: Sequence[str], size: int) -> list[str]:
        chosen = super().choose(available, must, size)
        return [*chosen[:-1], chosen[0]] if size > 1 and chosen else chosen


@defect(PREFER, 38, 42)
class HasNoPreference(Plugin):
    def choose(self, available: Sequence[str], must: Sequence[str], size: int) -> list[str]:
        return []


class Picky(Plugin):
    def objection(self, available: Sequence[str], size: int) -> bool:
        return False

    async def GetPreferredAllocation(
        self, request: pluginapi.PreferredAllocationRequest, context: Context
    ) -> pluginapi.PreferredAllocationResponse:
        (one,) = request.container_requests
        if self.objection(one.available_deviceIDs, one.allocation_size):
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "impossible")
        return await super().GetPreferredAllocation(request, context)


@defect(PREFER, 39)
class KnowsNoUnknownIds(Picky):
    def objection(self, available: Sequence[str], size: int) -> bool:
        return not set(available) <= set(self.ids())


@defect(PREFER, 41)
class RefusesMoreThanThereIs(Picky):
    def objection(self, available: Sequence[str], size: int) -> bool:
        return size > len(available)


@defect(PREFER, 41, call_timeout_s=HANGS_S)
class HangsWhereNothingIsAskedFor(Picky):
    async def GetPreferredAllocation(
        self, request: pluginapi.PreferredAllocationRequest, context: Context
    ) -> pluginapi.PreferredAllocationResponse:
        if not request.container_requests[0].allocation_size:
            await asyncio.Future()
        return await super().GetPreferredAllocation(request, context)


@defect(PREFER, 40)
class TakesTheFirst(Plugin):
    def choose(self, available: Sequence[str], must: Sequence[str], size: int) -> list[str]:
        return [*must, *(name for name in available if name not in must)][:size]


@defect(PREFER, 40, 43)
class ReservesWhatItPrefers(Plugin):
    last = ""

    def choose(self, available: Sequence[str], must: Sequence[str], size: int) -> list[str]:
        rest = sorted(set(available) - set(must), key=lambda name: (name == self.last, name))
        chosen = [*sorted(set(must)), *rest][:size]
        self.last = chosen[-1] if chosen else self.last
        return chosen


# -- Allocate ---------------------------------------------------------------------------------


def write_spec(directory: Path, kind: str, names: Sequence[str]) -> None:
    """A CDI spec of names that give nothing."""
    directory.mkdir(exist_ok=True)
    devices = [{"name": name, "containerEdits": {"env": ["X=1"]}} for name in names]
    text = json.dumps({"cdiVersion": "0.6.0", "kind": kind, "devices": devices})
    directory.joinpath("small.json").write_text(text)


class Answering(Plugin):
    def change(self, answers: Answers, request: Requests) -> None:
        """Change the container responses in place."""

    async def Allocate(
        self, request: pluginapi.AllocateRequest, context: Context
    ) -> pluginapi.AllocateResponse:
        answer = await super().Allocate(request, context)
        self.change(answer.container_responses, request.container_requests)
        return answer


@defect(ALLOCATE, 44)
class AnswersTheFirstRequestOnly(Answering):
    def change(self, answers: Answers, request: Requests) -> None:
        del answers[1:]


@defect(ALLOCATE, 44)
class AnswersNothing(Answering):
    def change(self, answers: Answers, request: Requests) -> None:
        del answers[:]


@defect(ALLOCATE, 44)
class AnswersInAnotherOrder(Answering):
    def change(self, answers: Answers, request: Requests) -> None:
        answers.reverse()


@defect(ALLOCATE, 45, call_timeout_s=HANGS_S)
class Hangs(Plugin):
    async def Allocate(self, request: object, context: Context) -> NoReturn:
        await asyncio.Future()
        raise AssertionError("nothing ends this wait")


@defect(ALLOCATE, 45, slack=1.0)
class AllocatesSlowly(Plugin):
    async def Allocate(
        self, request: pluginapi.AllocateRequest, context: Context
    ) -> pluginapi.AllocateResponse:
        await asyncio.sleep(0.11)
        return await super().Allocate(request, context)


@defect(ALLOCATE, 45, slack=1.0)
class RefusesSlowly(Plugin):
    async def Allocate(
        self, request: pluginapi.AllocateRequest, context: Context
    ) -> pluginapi.AllocateResponse:
        if not all(set(one.devices_ids) <= set(self.ids()) for one in request.container_requests):
            await asyncio.sleep(0.2)
        return await super().Allocate(request, context)


@defect(ALLOCATE, 46, 48)
class CountsItsAnswers(Answering):
    count = 0

    def change(self, answers: Answers, request: Requests) -> None:
        self.count += 1
        answers[0].envs["COUNT"] = str(self.count)


@defect(ALLOCATE, 47)
class AcceptsUnknownIds(Plugin):
    async def Allocate(
        self, request: pluginapi.AllocateRequest, context: Context
    ) -> pluginapi.AllocateResponse:
        answers = [self.answer(list(one.devices_ids)) for one in request.container_requests]
        return pluginapi.AllocateResponse(container_responses=answers)


@defect(ALLOCATE)
class RefusesWithACodeThatSaysNothing(Plugin):
    """As Go does; the kubelet does not look at it."""

    def refuse(self, name: str) -> tuple[grpc.StatusCode, str]:
        return grpc.StatusCode.UNKNOWN, super().refuse(name)[1]


@defect(ALLOCATE, 47)
class RefusesWithoutAWord(Plugin):
    def refuse(self, name: str) -> tuple[grpc.StatusCode, str]:
        return grpc.StatusCode.INVALID_ARGUMENT, ""


@defect(ALLOCATE)
class KeepsTheOrderOfIds(Plugin):
    """In a variable that is a list; no container sees in which order it was asked."""

    def answer(self, ids: Sequence[str]) -> Answer:
        answer = super().answer(ids)
        answer.envs[f"{self.kind.upper()}S"] = ",".join(ids)
        return answer


@defect(ALLOCATE)
class AnswersNodesInAnyOrder(Answering):
    dice = random.Random(0)  # repeatable

    def change(self, answers: Answers, request: Requests) -> None:
        for answer in answers:
            extra = {"host_path": self.host_path, "permissions": "rw"}
            paths = [f"/dev/{self.kind}{number}" for number in range(8)]
            for path in self.dice.sample(paths, len(paths)):
                answer.devices.add(container_path=path, **extra)


@defect(ALLOCATE)
class NumbersItsCdiAnnotations(Answering):
    """As NVIDIA's plugin does; a runtime reads all of them."""

    count = 0

    def change(self, answers: Answers, request: Requests) -> None:
        write_spec(self.state / "cdi", "example.com/it", ["a", "b"])
        for answer in answers:
            self.count += 1
            del answer.devices[:]
            names = ["example.com/it=a", "example.com/it=b"][:: self.count % 2 * 2 - 1]
            answer.annotations[f"cdi.k8s.io/small_{self.count}"] = ",".join(names)


@defect(ALLOCATE, 48)
class FavoursTheFirstId(Plugin):
    def answer(self, ids: Sequence[str]) -> Answer:
        answer = super().answer(ids)
        answer.envs[f"FIRST_{self.kind}"] = ids[0]
        return answer


class Node(Answering):
    """An answer with one thing added."""

    def add(self, answer: Answer) -> None:
        """Change one answer in place."""

    def change(self, answers: Answers, request: Requests) -> None:
        for answer in answers:
            self.add(answer)


@defect(ALLOCATE, 49)
class NamesAMissingNode(Node):
    def add(self, answer: Answer) -> None:
        answer.devices[0].host_path = "/dev/there-is-no-such-node"


@defect(ALLOCATE, 49)
class MountsWhatIsMissing(Node):
    def add(self, answer: Answer) -> None:
        answer.mounts.add(container_path="/lib/gpu", host_path="/there/is/no/such/directory")


@defect(ALLOCATE, 49)
class GivesNoPermissions(Node):
    def add(self, answer: Answer) -> None:
        answer.devices[0].permissions = ""


@defect(ALLOCATE, 50)
class SetsOneVariableForAll(Node):
    def add(self, answer: Answer) -> None:
        answer.envs["DEVICES"] = answer.envs[f"{self.kind.upper()}S"]


@defect(ALLOCATE, 51)
class MakesOnePathOfTwo(Node):
    def add(self, answer: Answer) -> None:
        host_path = {"gpu": "/dev/null", "nic": "/dev/zero"}[self.kind]
        answer.devices.add(container_path="/dev/it", host_path=host_path, permissions="r")


@defect(ALLOCATE, 51)
class GivesOnePathTwice(Node):
    def add(self, answer: Answer) -> None:
        path = f"/dev/{self.kind}"
        answer.devices.add(container_path=path, host_path="/dev/zero", permissions="r")


@defect(ALLOCATE, 52)
class NamesNoCdiDevice(Node):
    def add(self, answer: Answer) -> None:
        del answer.devices[:]
        answer.cdi_devices.add(name="gpu-0")


@defect(ALLOCATE, 52)
class WritesNoSpec(Node):
    def add(self, answer: Answer) -> None:
        del answer.devices[:]
        answer.annotations["cdi.k8s.io/small"] = "example.com/gpu=gpu-0"


@defect(ALLOCATE, 52, 53)
class InjectsTwice(Node):
    def add(self, answer: Answer) -> None:
        answer.cdi_devices.add(name="example.com/gpu=gpu-0")


@defect(ALLOCATE, 54)
class TakesTheKubeletsAnnotations(Node):
    def add(self, answer: Answer) -> None:
        answer.annotations["io.kubernetes.container.ports"] = "[]"


@defect(ALLOCATE, 55)
class GivesVariablesOnly(Node):
    def add(self, answer: Answer) -> None:
        del answer.devices[:]


@defect(ALLOCATE, 55)
class GivesNothing(Answering):
    def change(self, answers: Answers, request: Requests) -> None:
        for answer in answers:
            answer.Clear()


@defect(ALLOCATE, 57)
class TellsASecret(Node):
    def add(self, answer: Answer) -> None:
        answer.envs["GPU_LICENSE_TOKEN"] = "x"  # noqa: S105  # the point


@defect(ALLOCATE, 58)
class RefusesInSeveralLines(Plugin):
    def refuse(self, name: str) -> tuple[grpc.StatusCode, str]:
        return grpc.StatusCode.INVALID_ARGUMENT, "Traceback:\n  File x\nValueError"


@defect(ALLOCATE, 58)
class RefusesAtLength(Plugin):
    def refuse(self, name: str) -> tuple[grpc.StatusCode, str]:
        return grpc.StatusCode.INVALID_ARGUMENT, f"{name} is not one of " + "gpu, " * 200


@defect(ALLOCATE, 60, call_timeout_s=HANGS_S)
class AnswersOneCallAtATime(Plugin):
    busy = False

    async def Allocate(
        self, request: pluginapi.AllocateRequest, context: Context
    ) -> pluginapi.AllocateResponse:
        if self.busy:
            await asyncio.Future()
        self.busy = True
        try:
            await asyncio.sleep(0.02)
            return await super().Allocate(request, context)
        finally:
            self.busy = False


@defect(ALLOCATE, 61)
class PreparesOnce(Plugin):
    prepared = False

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.options.pre_start_required = True

    async def PreStartContainer(
        self, request: pluginapi.PreStartContainerRequest, context: Context
    ) -> pluginapi.PreStartContainerResponse:
        if self.prepared:
            await context.abort(grpc.StatusCode.ALREADY_EXISTS, "prepared already")
        self.prepared = True
        return pluginapi.PreStartContainerResponse()


# -- PodResources -----------------------------------------------------------------------------


@defect(63, 63, timeout_s=VAIN_S)
class AllocatesWithPodResourcesOnly(Plugin):
    async def Allocate(
        self, request: pluginapi.AllocateRequest, context: Context
    ) -> pluginapi.AllocateResponse:
        if not is_listening(self.directory.parent / "pod-resources" / "kubelet.sock"):
            await context.abort(grpc.StatusCode.UNAVAILABLE, "nobody tells what pods hold")
        return await super().Allocate(request, context)


@defect(64, 64)
class AsksForPodsAllTheTime(Plugin):
    async def run(self) -> None:
        await asyncio.gather(super().run(), self._ask())

    async def _ask(self) -> None:
        api = PodResources(self.directory.parent / "pod-resources" / "kubelet.sock")
        while True:
            with suppress(HoldersUnknownError):
                await api.read_reply()
            await asyncio.sleep(0.1)


# -- Processes --------------------------------------------------------------------------------


@defect(CHANGE, 14, timeout_s=PROCESS_S)
class TrustsAnOldPidFile(Plugin):
    async def serve(self) -> grpc.aio.Server:
        mark = self.state / f"{self.kind}.pid"
        if mark.exists():
            raise SystemExit(f"{mark} exists: another plugin is running")
        mark.touch()
        return await super().serve()


@defect(KILL, 5, timeout_s=PROCESS_S)
class FearsAnOldSocket(Plugin):
    async def serve(self) -> grpc.aio.Server:
        while is_listening(self.socket):
            await asyncio.sleep(POLL_S)
        if self.socket.exists():
            raise SystemExit(f"{self.socket} exists")
        return await super().serve()


@defect(KILL, 24, 66)
class NamesDevicesAfterItsProcess(Plugin):
    def ids(self) -> list[str]:
        return [f"{name}-{os.getpid()}" for name in super().ids()]


@defect(17, 17)
class LeavesItsSocket(Plugin):
    async def leave(self) -> None:
        """The socket stays behind."""


@defect(17, 17, slack=1.0)
class EndsSlowly(Plugin):
    async def leave(self) -> None:
        await super().leave()
        await asyncio.sleep(1.3)  # each of two


@defect(RESTART, 18, 35)
class LeaksFiles(Plugin):
    async def ListAndWatch(
        self, request: object, context: Context
    ) -> AsyncIterator[pluginapi.ListAndWatchResponse]:
        for _ in range(20):
            os.dup(0)
        async for message in super().ListAndWatch(request, context):
            yield message


@defect(RESTART, 18, 35)
class KeepsAThreadForEachStream(Plugin):
    async def ListAndWatch(
        self, request: object, context: Context
    ) -> AsyncIterator[pluginapi.ListAndWatchResponse]:
        for _ in range(4):
            Thread(target=Event().wait, daemon=True).start()
        async for message in super().ListAndWatch(request, context):
            yield message


class Pool:
    """Threads that are used again once they are idle, as those of Go are that wait in C."""

    def __init__(self) -> None:
        self.idle = 0
        self.jobs: Queue[None] = Queue()
        self.lock = Lock()

    def wait_in_a_thread(self) -> None:
        with self.lock:
            if self.idle:
                self.idle -= 1
            else:
                Thread(target=self._work, daemon=True).start()
        self.jobs.put(None)

    def _work(self) -> None:
        while True:
            self.jobs.get()
            time.sleep(0.3)
            with self.lock:
                self.idle += 1


@defect(RESTART)
class UsesItsThreadsAgain(Plugin):
    pool = Pool()

    async def ListAndWatch(
        self, request: object, context: Context
    ) -> AsyncIterator[pluginapi.ListAndWatchResponse]:
        for _ in range(8):
            self.pool.wait_in_a_thread()
        async for message in super().ListAndWatch(request, context):
            yield message


# -- Processes that end -----------------------------------------------------------------------

PANIC = """panic: runtime error: index out of range [0] with length 0

goroutine 7 [running]:
main.main()
gs     0x0
"""


def die(status: int, words: str = "") -> NoReturn:
    """End now, as a crash does."""
    os.write(2, words.encode())
    os._exit(status)


@defect(PREFER, 41)
class PanicsWhereNothingIsAskedFor(Plugin):
    def choose(self, available: Sequence[str], must: Sequence[str], size: int) -> list[str]:
        return super().choose(available, must, size) if size else die(2, PANIC)


@defect(PREFER, 39)
class PanicsAtUnknownIdsInAPreference(Plugin):
    def choose(self, available: Sequence[str], must: Sequence[str], size: int) -> list[str]:
        if not set(available) <= set(self.ids()):
            die(2, PANIC)
        return super().choose(available, must, size)


QUESTIONS = 9 + 3 + 5 + 36 + 18  # to a resource with three devices


@defect(PREFER, 43)
class PanicsAfterAPreference(Plugin):
    asked = 0

    def choose(self, available: Sequence[str], must: Sequence[str], size: int) -> list[str]:
        self.asked += 1
        last = self.kind == "nic" and self.asked == QUESTIONS
        if last:
            asyncio.get_running_loop().call_soon(die, 2, PANIC)
        return super().choose(available, must, size)


@defect(ALLOCATE, 47)
class PanicsAtAnUnknownId(Plugin):
    def refuse(self, name: str) -> tuple[grpc.StatusCode, str]:
        die(2, PANIC)


@defect(ALLOCATE, 44)
class PanicsAtSeveralRequests(Plugin):
    async def Allocate(
        self, request: pluginapi.AllocateRequest, context: Context
    ) -> pluginapi.AllocateResponse:
        is_usual = len(request.container_requests) < 3
        return await super().Allocate(request, context) if is_usual else die(2, PANIC)


@defect(63, 63, timeout_s=VAIN_S)
class EndsWithoutPodResources(Plugin):
    """Looks when it is asked: a look in between may come after the socket is back."""

    async def Allocate(
        self, request: pluginapi.AllocateRequest, context: Context
    ) -> pluginapi.AllocateResponse:
        if not is_listening(self.directory.parent / "pod-resources" / "kubelet.sock"):
            die(1, "nobody tells what pods hold")
        return await super().Allocate(request, context)


# The refusal of one resource ends it while the kubelet may just ask for the options of the other.
@defect(8, 8, may=(2,))
class EndsWhenItIsRefused(Plugin):
    async def register(self, timeout_s: float = 12.0) -> None:
        try:
            await super().register(timeout_s)
        except grpc.aio.AioRpcError:
            die(1, "cannot register")


class EndsWithItsKubelet(Plugin):
    async def run(self) -> None:
        await asyncio.gather(super().run(), self._watch())

    async def _watch(self) -> None:
        while not is_listening(self.kubelet):
            await asyncio.sleep(POLL_S)
        known = read_identity(self.kubelet)
        while read_identity(self.kubelet) == known and is_listening(self.kubelet):
            await asyncio.sleep(POLL_S)
        die(1, "the kubelet has gone")


defect(RESTART, 9, may=(10,), slack=1.0)(EndsWithItsKubelet)


@defect(13, 18, early_s=30.0)
class EndsWithoutAKubelet(Plugin):
    async def serve(self) -> grpc.aio.Server:
        await asyncio.sleep(0.5)  # its first look at the hardware
        if not is_listening(self.kubelet):
            die(1, "no kubelet")
        return await super().serve()


@defect(BREAK, 37, may=(28, 31))
class EndsWhenADeviceFails(Plugin):
    was_well = False

    def broken(self) -> set[str]:
        found = super().broken()
        if found and self.was_well:
            die(1, "a device has failed")
        self.was_well = not found
        return found


@defect(BREAK)
class EndsWithAnyStream(Plugin):
    async def ListAndWatch(
        self, request: object, context: Context
    ) -> AsyncIterator[pluginapi.ListAndWatchResponse]:
        try:
            async for message in super().ListAndWatch(request, context):
                yield message
        finally:
            die(1, "a stream has ended, ending too")


@defect(CHANGE, 14, timeout_s=3 * VAIN_S, up_s=30.0)
class EndsBesideAnother(Plugin):
    async def serve(self) -> grpc.aio.Server:
        if is_listening(self.socket):
            die(1, "socket already in use")
        return await super().serve()


@defect(CHANGE, 14, timeout_s=PROCESS_S)
class LeavesItsPredecessorsKubelet(Plugin):
    async def serve(self) -> grpc.aio.Server:
        with (self.state / f"{self.kind}.starts").open("a+") as starts:
            starts.write("x")
            if starts.tell() == len("xx"):  # the second, however late it is
                self.registered_with, self.watched = read_identity(self.kubelet), True
        return await super().serve()


PROCESSES = {
    "TrustsAnOldPidFile",
    "FearsAnOldSocket",
    "NamesDevicesAfterItsProcess",
    "LeavesItsSocket",
    "EndsSlowly",
    "LeaksFiles",
    "KeepsAThreadForEachStream",
    "UsesItsThreadsAgain",
    "PanicsWhereNothingIsAskedFor",
    "PanicsAtUnknownIdsInAPreference",
    "PanicsAfterAPreference",
    "PanicsAtAnUnknownId",
    "PanicsAtSeveralRequests",
    "EndsWithoutPodResources",
    "EndsWhenItIsRefused",
    "EndsWithItsKubelet",
    "EndsWithoutAKubelet",
    "EndsWhenADeviceFails",
    "EndsWithAnyStream",
    "EndsBesideAnother",
    "LeavesItsPredecessorsKubelet",
}


# Whose tests say more than that the line fails.
ELSEWHERE = {
    "PanicsWhereNothingIsAskedFor",
    "EndsWithItsKubelet",
    "LeavesItsPredecessorsKubelet",
}


def started_as(kubelet_dir: Path, state: Path, name: str | None = None) -> tuple[str, ...]:
    """How a plugin is started as a process."""
    arguments = (str(kubelet_dir), str(state), *([name] if name else []))
    return (sys.executable, "-m", "tests.conformance.defects", *arguments)


if __name__ == "__main__":
    chosen = DEFECTS[sys.argv[3]].make if len(sys.argv) > 3 else Plugin
    asyncio.run(main(chosen, sys.argv[1:]))

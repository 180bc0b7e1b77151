"""Active tests as a part of the daemon: it takes GPUs for tests and gives them back, also those of
a test that was killed, and shows what was found. What does that is loaded with the first test."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Generic, TypeVar

from deviceplugin.health.records import UNDER_TEST
from deviceplugin.runtime.latest import Latest
from deviceplugin.runtime.part import Collector, Once, Operation, Part, Reply, Series
from deviceplugin.schema import Section

if TYPE_CHECKING:
    from deviceplugin.diagnose.active.holds import Around, Holds
    from deviceplugin.diagnose.active.values import Past
    from deviceplugin.health.records import FaultRecords

LOOK_S = 1.0  # while a test runs
_SHOWN = 3
_FILE = "active-tests.json"
ConfigT = TypeVar("ConfigT")


class TestRequest(Section, frozen=True):
    """A test takes or gives back a GPU; `operation` is test_begin or test_end, `token` names the
    test, `keep` is why the GPU stays cordoned."""

    operation: str
    device: str
    token: str
    keep: str = ""


class ActiveTestsPart(Part[ConfigT], Generic[ConfigT]):
    """`around` gives what tests are held against, `records` are the cordons, `told` is given what
    was found by each test that ends."""

    def __init__(
        self,
        state_dir: Path,
        records: "Latest[FaultRecords]",
        around: "Callable[[], Around]",
        told: Callable[[str, Sequence[Mapping[str, str]]], None],
    ) -> None:
        self._state_dir, self._records, self._around, self._told = state_dir, records, around, told
        self._made: Holds | None = None
        self.past: Sequence[Past] = ()
        self._began = asyncio.Event()
        self.look_s = LOOK_S

    def tasks(self) -> Mapping[str, Once]:
        """Gives back what killed tests have left."""
        return {"active_tests": self._watch}

    def operations(self) -> Mapping[str, Operation]:
        """test_begin and test_end."""
        return {
            "test_begin": Operation(TestRequest, self._begin),
            "test_end": Operation(TestRequest, self._end),
        }

    def collectors(self) -> Mapping[str, Collector]:
        """Nothing before the first test."""
        return {"active_tests": self}

    def collect(self) -> Sequence[Series]:
        """The newest result of each GPU and test."""
        if not self.past:
            return ()
        from deviceplugin.diagnose.active.metrics import series_of  # noqa: PLC0415  # with results

        return tuple(series_of(self.past))

    @property
    def notice(self) -> str:
        """What failed; empty where nothing did."""
        failed = [one for one in self.past if one.verdict == "fail"]
        if not failed:
            return ""
        some = ", ".join(f"{one.outcome.test} of {one.outcome.device}" for one in failed[:_SHOWN])
        more = f" and {len(failed) - _SHOWN} more" if len(failed) > _SHOWN else ""
        return f"active tests failed: {some}{more} (deviceplugin diagnose --active tests again)"

    @property
    def _holds(self) -> "Holds":
        if self._made is None:
            from deviceplugin.diagnose.active.holds import Holds  # noqa: PLC0415  # with a test

            self._made = Holds(self._around())
        return self._made

    async def _begin(self, request: TestRequest) -> Reply:
        self._began.set()
        return await self._holds.begin(request.device, request.token)

    async def _end(self, request: TestRequest) -> Reply:
        before = {(one.at, one.outcome.test) for one in self.past}
        reply = await self._holds.end(request.device, request.token, request.keep)
        await self._read()
        self._told(
            str(reply["device"]),
            [
                {"test": one.outcome.test, "verdict": one.verdict, "found": one.text}
                for one in self.past
                if one.outcome.device == reply["device"]
                and (one.at, one.outcome.test) not in before
            ],
        )
        return reply

    async def _read(self) -> None:
        from deviceplugin.diagnose.active.history import latest, read_past  # noqa: PLC0415  # as above

        self.past = latest(await asyncio.to_thread(read_past, self._state_dir))

    async def _watch(self) -> None:
        """A process that is killed tells nobody: its lock is looked at while it has a GPU."""
        if await asyncio.to_thread((self._state_dir / _FILE).exists):
            await self._read()
        while True:
            if not self._any():
                self._began.clear()
                await self._began.wait()
            await self._holds.give_back_of_the_dead()
            await asyncio.sleep(self.look_s)

    def _any(self) -> bool:
        return _has_mark(self._records.value) or (self._made is not None and self._made.any)


def _has_mark(records: "FaultRecords") -> bool:
    return any(cordon.reason.startswith(UNDER_TEST) for cordon in records.cordons.values())

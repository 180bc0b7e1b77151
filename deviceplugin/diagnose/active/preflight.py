"""A pod's own GPUs, tested before its job starts: the kubelet has given them, so nothing is asked
of the daemon, and all of them are tested at once."""

import asyncio
from collections.abc import Sequence

from msgspec import Struct

from deviceplugin.diagnose.active.bench import outcome_of
from deviceplugin.diagnose.active.driver import variables_for
from deviceplugin.diagnose.active.process import HangsError, OutputError, Runner
from deviceplugin.diagnose.active.room import lacking_room
from deviceplugin.diagnose.active.tools import OUR_KERNELS
from deviceplugin.diagnose.active.values import Outcome, Past, Wish
from deviceplugin.diagnose.active.verdict import judged, result_of
from deviceplugin.diagnose.model import Judged, Result, Verdict
from deviceplugin.documents.diagnostics import COMPUTE_TEST, MEMORY_TEST
from deviceplugin.errors import DevicePluginError
from deviceplugin.host import Host
from deviceplugin.model import DeviceID

STARTING_S = 6.0  # of the driver, three times, and of what it compiles
LEAST_S = 1.0
GRACE_S = 30.0
_ELSEWHERE = "delete the pod so that it starts on another GPU, and tell who runs the node"


class Gpu(Struct, frozen=True, kw_only=True):
    """One that the CUDA driver shows here."""

    address: str
    product: str


def wishes_within(seconds: float) -> tuple[Wish, Wish]:
    """The tests that fit in so many seconds."""
    each = max(LEAST_S, (seconds - STARTING_S) / 2)
    return (
        Wish(test=MEMORY_TEST, seconds=each, threshold=0.95, short=True),
        Wish(test=COMPUTE_TEST, seconds=each, threshold=0.9, short=True),
    )


async def preflight(library: str, seconds: float) -> Sequence[Result]:
    """The results of each GPU; raises DevicePluginError where none can be tested."""
    if cramped := await asyncio.to_thread(lacking_room, Host()):
        raise DevicePluginError(cramped)
    runner = Runner(variables=variables_for(library, ""), grace_s=GRACE_S)
    gpus = await _shown(runner, library)
    wishes = wishes_within(seconds)
    found = await asyncio.gather(*(_tested(runner, library, gpu, wishes) for gpu in gpus))
    outcomes = [outcome for ours in found for outcome in ours]
    return [
        _result(outcome, wish, outcomes)
        for ours in found
        for wish, outcome in zip(wishes, ours, strict=True)
    ]


async def _shown(runner: Runner, library: str) -> Sequence[Gpu]:
    found = await runner.child("list", library, seconds=STARTING_S)
    if "problem" in found:
        raise DevicePluginError(f"no GPU can be used here: {found['problem']}")
    gpus = [Gpu(address=str(one["address"]), product=str(one["product"])) for one in found["cards"]]
    if not gpus:
        raise DevicePluginError("the CUDA driver shows no GPU here")
    return gpus


async def _tested(
    runner: Runner, library: str, gpu: Gpu, wishes: Sequence[Wish]
) -> Sequence[Outcome]:
    return [await _test(runner, library, gpu, wish) for wish in wishes]


async def _test(runner: Runner, library: str, gpu: Gpu, wish: Wish) -> Outcome:
    blank = Outcome(
        test=wish.test,
        device=DeviceID(gpu.address),
        product=gpu.product,
        tool=OUR_KERNELS,
        short=True,
    )
    arguments = (wish.test, f"{wish.seconds:g}", gpu.address, library)
    try:
        return outcome_of(await runner.child(*arguments, seconds=wish.seconds), blank)
    except OutputError as error:
        hangs = isinstance(error, HangsError)
        return outcome_of({"problem": str(error), "broken": hangs}, blank)


def _result(outcome: Outcome, wish: Wish, outcomes: Sequence[Outcome]) -> Result:
    """Against the job's other GPUs; a test that could not be made lets no job start."""
    past = [Past(at=0.0, outcome=one, verdict=Verdict.PASS, text="") for one in outcomes]
    found = judged(outcome, wish, [one for one in past if not one.outcome.wrong])
    if found.verdict is Verdict.SKIPPED and outcome.value is None:
        found = Judged(Verdict.FAIL, found.value)
    told = Judged(found.verdict, found.value, _ELSEWHERE)
    return result_of(outcome, wish, told)


def line_of(results: Sequence[Result]) -> str:
    """What came of it and what to do, in one line."""
    failed = [one for one in results if one.verdict is Verdict.FAIL]
    gpus = len({one.subject for one in results})
    if not failed:
        return f"preflight: {gpus} GPU{'s are' if gpus > 1 else ' is'} fit for the job"
    first = failed[0]
    return f"preflight: {first.check} of GPU {first.subject}: {first.value}: {_ELSEWHERE}"

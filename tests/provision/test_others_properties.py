"""On AMD's and Intel's GPUs, whatever is wished, held and goes wrong: nothing that a pod has is
changed, what is there goes together, and what was begun ends as before or as wanted."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from deviceplugin.errors import VendorError
from deviceplugin.provision.helper import Around, Helper
from deviceplugin.provision.modes import MEMORY_MODES
from deviceplugin.provision.protocol import Apply, Look, Recover
from deviceplugin.provision.section import Layout, Selector, VirtualFunctions
from deviceplugin.provision.values import Held, Planned
from deviceplugin.vendor.partitions import (
    TURNS,
    UNBOUND,
    VFIO,
    Functions,
    Modes,
    PartitionedGpu,
    Setting,
    Step,
    Verb,
    is_quota,
)

ALONE = {"NPS1": "SPX", "NPS2": "DPX", "NPS4": "CPX"}
COMPUTE = ("SPX", "DPX", "QPX", "CPX")
MEMORY_BYTES, MOST = 24 << 30, 4
AMD, INTEL = ("0000:05:00.0", "0000:27:00.0"), ("0000:04:00.0", "0000:b4:00.0")


def amd_gpu(address: str) -> PartitionedGpu:
    modes = Modes(compute="SPX", available=COMPUTE, memory="NPS1", memories=tuple(ALONE))
    return _gpu(address, "amd", modes=modes, reloaded=True)


def intel_gpu(address: str) -> PartitionedGpu:
    functions = Functions(
        count=0,
        most=MOST,
        driver="xe",
        memory_bytes=MEMORY_BYTES,
        quotas=True,
        quota_bytes=0,
        quanta_ms=(0,) * MOST,
        timeouts_us=(0,) * MOST,
        native="xe",
        loaded=("xe", VFIO),
    )
    return _gpu(address, "intel", functions=functions)


def _gpu(address: str, vendor: str, **has: object) -> PartitionedGpu:
    number = (*AMD, *INTEL).index(address)
    return PartitionedGpu(
        id=address,
        vendor=vendor,
        product=vendor,
        index=number,
        address=address,
        device="",
        **has,  # type: ignore[arg-type]  # by name
    )


class Hands:
    """GPUs as values. The calls of the numbers in `broken` fail: before anything is done, or (True)
    when it is done. What a pod has is never changed: that is asserted here."""

    def __init__(self, gpus: Sequence[PartitionedGpu], broken: Mapping[int, bool]) -> None:
        self.gpus = {gpu.id: gpu for gpu in gpus}
        self.pods: frozenset[str] = frozenset()
        self.broken, self.calls = broken, 0

    def read(self) -> Sequence[PartitionedGpu]:
        return list(self.gpus.values())

    def apply(self, step: Step) -> None:
        assert step.verb in TURNS or step.gpus.isdisjoint(self.pods), step
        self.calls += 1
        if self.broken.get(self.calls) is False:
            raise VendorError("it fails before anything is done")
        EFFECTS[step.verb](self, step)
        if self.broken.get(self.calls):
            raise VendorError("it fails when all is done")

    def is_done(self, step: Step) -> bool:
        return DONE[step.verb](self, step)

    def close(self) -> None:
        pass

    def modes(self, gpu: str) -> Modes:
        modes = self.gpus[gpu].modes
        assert modes is not None
        return modes

    def functions(self, gpu: str) -> Functions:
        functions = self.gpus[gpu].functions
        assert functions is not None
        return functions

    def set_modes(self, gpu: str, **now: str) -> None:
        self.gpus[gpu] = replace(self.gpus[gpu], modes=replace(self.modes(gpu), **now))

    def set_functions(self, gpu: str, **now: object) -> None:
        functions = replace(self.functions(gpu), **now)
        self.gpus[gpu] = replace(self.gpus[gpu], functions=functions)


def _compute(hands: Hands, step: Step) -> None:
    _check_pair(step.name, hands.modes(step.gpu).memory)
    hands.set_modes(step.gpu, compute=step.name)


def _memory(hands: Hands, step: Step) -> None:
    for one in step.settings:
        compute = one.compute or ALONE[one.memory]
        _check_pair(compute, one.memory)
        hands.set_modes(one.gpu, memory=one.memory, compute=compute)


def _check_pair(compute: str, memory: str | None) -> None:
    if memory not in MEMORY_MODES[compute]:
        raise VendorError(f"{compute} with {memory}: Invalid argument")


def _is_set(hands: Hands, one: Setting) -> bool:
    modes = hands.modes(one.gpu)
    return modes.memory == one.memory and one.compute in ("", modes.compute)


def _enable(hands: Hands, step: Step) -> None:
    functions = hands.functions(step.gpu)
    if step.number and functions.count:
        raise VendorError("Device or resource busy")
    probed = functions.native if functions.autoprobe else UNBOUND
    hands.set_functions(step.gpu, count=step.number, drivers=(probed,) * step.number)


def _quota(hands: Hands, step: Step) -> None:
    if hands.functions(step.gpu).count:
        raise VendorError("Device or resource busy")
    hands.set_functions(step.gpu, quota_bytes=step.number)


def _drive(hands: Hands, step: Step) -> None:
    assert len(step.name.split()) == hands.functions(step.gpu).count
    hands.set_functions(step.gpu, drivers=tuple(step.name.split()))


def _numbers(step: Step) -> tuple[int, ...]:
    return tuple(map(int, step.name.split()))


EFFECTS: Mapping[Verb, Callable[[Hands, Step], None]] = {
    Verb.COMPUTE: _compute,
    Verb.MEMORY: _memory,
    Verb.FUNCTIONS: _enable,
    Verb.QUOTA: _quota,
    Verb.DRIVER: _drive,
    Verb.AUTOPROBE: lambda h, s: h.set_functions(s.gpu, autoprobe=bool(s.number)),
    Verb.QUANTUM: lambda h, s: h.set_functions(s.gpu, quanta_ms=_numbers(s)),
    Verb.PREEMPTION: lambda h, s: h.set_functions(s.gpu, timeouts_us=_numbers(s)),
}
DONE: Mapping[Verb, Callable[[Hands, Step], bool]] = {
    Verb.COMPUTE: lambda h, s: h.modes(s.gpu).compute == s.name,
    Verb.MEMORY: lambda h, s: all(_is_set(h, one) for one in s.settings),
    Verb.FUNCTIONS: lambda h, s: h.functions(s.gpu).count == s.number,
    Verb.QUOTA: lambda h, s: is_quota(s.number, h.functions(s.gpu).quota_bytes or 0),
    Verb.DRIVER: lambda h, s: h.functions(s.gpu).drivers == tuple(s.name.split()),
    Verb.AUTOPROBE: lambda h, s: h.functions(s.gpu).autoprobe == bool(s.number),
    Verb.QUANTUM: lambda h, s: h.functions(s.gpu).quanta_ms == _numbers(s),
    Verb.PREEMPTION: lambda h, s: h.functions(s.gpu).timeouts_us == _numbers(s),
}

NONE = Layout(none=True)
MODES = st.one_of(
    st.just(NONE),
    st.builds(Layout, compute=st.sampled_from(COMPUTE), memory=st.sampled_from([None, *ALONE])),
    st.builds(Layout, memory=st.sampled_from(tuple(ALONE))),
)
COUNTS = st.integers(0, MOST + 1)
FUNCTIONS = st.builds(
    lambda **wish: Layout(virtual_functions=VirtualFunctions(**wish)),
    count=COUNTS,
    memory=st.sampled_from([None, "1GiB", "6GiB", "9GiB"]),
    compute=st.sampled_from([None, "5%", "20%"]),
    driver=st.sampled_from([None, "xe", VFIO, "amdgpu"]),
)
WISHES = st.tuples(MODES, MODES, FUNCTIONS, st.one_of(FUNCTIONS, st.just(NONE)))
ROUNDS = st.lists(
    st.tuples(WISHES, st.booleans(), st.frozensets(st.sampled_from((*AMD, *INTEL)), max_size=2)),
    min_size=1,
    max_size=5,
)


@settings(max_examples=80)
@given(ROUNDS, st.dictionaries(st.integers(1, 25), st.booleans(), max_size=5), st.booleans())
def test_what_is_held_stays_as_it_is_whatever_fails(
    rounds: Sequence[tuple[tuple[Layout, ...], bool, frozenset[str]]],
    broken: Mapping[int, bool],
    late: bool,  # a pod may come between plan and change
) -> None:
    with TemporaryDirectory() as folder:
        hands = {
            "amd": Hands([amd_gpu(one) for one in AMD], broken),
            "intel": Hands([intel_gpu(one) for one in INTEL], broken),
        }
        helper = Helper(hands, Around(state_dir=Path(folder), boot="boot"))
        for wishes, alike, pods in rounds:
            wanted = (wishes[0], *wishes[:1], *wishes[2:]) if alike else wishes
            one_round(helper, hands, _selected(wanted), (pods, late))


def _selected(wishes: Sequence[Layout]) -> tuple[Layout, ...]:
    gpus = zip((*AMD, *INTEL), wishes, strict=True)
    return tuple(replace(wish, select=Selector(address=gpu)) for gpu, wish in gpus)


def one_round(
    helper: Helper,
    hands: Mapping[str, Hands],
    layouts: tuple[Layout, ...],
    holding: tuple[frozenset[str], bool],
) -> None:
    pods, late = holding
    for one in hands.values():
        one.pods = pods
    held = tuple(Held(gpu=gpu, device=f"{gpu}-part", holder="pod") for gpu in sorted(pods))
    answer = helper.answer(Look(layouts=layouts, held=() if late else held))
    if answer.begun:
        helper.answer(Recover(held=held))
        return
    for planned in answer.planned:
        if planned.state == "change":
            change(helper, hands, planned, (layouts, held))


def change(
    helper: Helper,
    hands: Mapping[str, Hands],
    planned: Planned,
    given_now: tuple[tuple[Layout, ...], tuple[Held, ...]],
) -> None:
    layouts, held = given_now
    gpu, before = planned.gpu.id, _there(hands)
    own = layouts[(*AMD, *INTEL).index(gpu)]
    said = helper.answer(
        Apply(gpu=gpu, layout=own, layouts=layouts, steps=planned.steps, held=held)
    )
    if said.outcome is None:
        assert _there(hands) == before
        return
    assert bool(said.begun) == (said.outcome.state == "stuck")
    if said.outcome.state == "undone":
        assert _there(hands) == before
    if said.outcome.state == "done":
        now = helper.answer(Look(layouts=layouts, held=held)).planned
        assert next(one.state for one in now if one.gpu.id == gpu) == "as-wanted"
    if said.outcome.state != "stuck":
        assert_together(hands)


def _there(hands: Mapping[str, Hands]) -> Sequence[PartitionedGpu]:
    return [gpu for one in hands.values() for gpu in one.read()]


def assert_together(hands: Mapping[str, Hands]) -> None:
    for gpu in _there(hands):
        if gpu.modes is not None:
            assert gpu.modes.memory in MEMORY_MODES[gpu.modes.compute]
        if gpu.functions is not None:
            functions = gpu.functions
            assert functions.count * (functions.quota_bytes or 0) <= MEMORY_BYTES
            assert len(functions.drivers) == functions.count <= functions.most
            assert sum(functions.quanta_ms or ()) <= 100
    memories = {gpu.modes.memory for gpu in hands["amd"].read() if gpu.modes}
    assert len(memories) == 1  # of one driver all have the same

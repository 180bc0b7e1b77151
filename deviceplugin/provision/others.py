"""Compute modes and virtual functions: from what is there to what is wanted; pure.

The memory modes that a compute mode can have stand in the kernel's
drivers/gpu/drm/amd/amdgpu/aqua_vanjaram.c; the order of the steps of virtual functions is that of
the PCI core (a count other than zero goes to another only by zero) and of the xe driver (memory
before the functions are enabled).
"""

from collections.abc import Mapping
from types import MappingProxyType

from deviceplugin.provision.section import VirtualFunctions
from deviceplugin.provision.values import Refused, Waiting
from deviceplugin.vendor.partitions import (
    TURNS,
    Functions,
    PartitionedGpu,
    Step,
    Verb,
    is_quota,
)

MEMORY_MODES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "SPX": ("NPS1",),
        "DPX": ("NPS1", "NPS2"),
        "TPX": ("NPS1", "NPS4"),
        "QPX": ("NPS1", "NPS4"),
        "CPX": ("NPS1", "NPS2", "NPS4"),
    }
)
WHOLE = "SPX"
LEAST_MS = 4  # the shortest turn in Intel's own profiles; those of equal functions stay equal
US_PER_MS = 2000  # a function has twice its turn to give the GPU up, as in Intel's own profiles
Turns = Mapping[Verb, tuple[int, ...]]


def mode_steps(gpu: PartitionedGpu, compute: str | None, memory: str | None) -> tuple[Step, ...]:
    """The steps to this compute mode; raises Refused or Waiting."""
    modes = gpu.modes
    if modes is None:
        raise Refused(f"this {gpu.product} has no compute modes")
    if memory is not None and modes.memory is not None and memory != modes.memory:
        raise Refused(
            f"the memory mode is {modes.memory}: {memory} is set for all GPUs of the node at once,"
            " by amd-smi set --memory-partition, with the driver loaded again"
        )
    if compute is None or compute == modes.compute:
        return ()
    if modes.memory is not None and modes.memory not in MEMORY_MODES[compute]:
        allowed = " or ".join(MEMORY_MODES[compute])
        raise Refused(f"{compute} needs the memory mode {allowed}, and it is {modes.memory}")
    if compute not in modes.available:
        known = ", ".join(modes.available) or "none"
        raise Refused(f"{compute} is no mode of this {gpu.product} now; the driver offers {known}")
    if gpu.users:
        raise Waiting(gpu.users, f"the GPU is in use by {', '.join(gpu.users)}")
    return (Step(gpu=gpu.id, verb=Verb.COMPUTE, name=compute, was_name=modes.compute),)


def function_steps(gpu: PartitionedGpu, wish: VirtualFunctions) -> tuple[Step, ...]:
    """The steps to so many virtual functions; raises Refused or Waiting."""
    functions = _checked(gpu, wish)
    settings = _settings(gpu, functions, wish) if wish.count else ()
    there = _turns(functions)
    turns = _wanted_turns(there, wish)
    if functions.count == wish.count and not settings:
        return _turn_steps(gpu, there, turns) if wish.compute else ()
    if functions.count and functions.held:
        holders = ", ".join(functions.held)
        raise Waiting(functions.held, f"virtual functions are in use: {holders}")
    off = (_functions(gpu, 0, functions.count),) if functions.count else ()
    on = (_functions(gpu, wish.count, 0),) if wish.count else ()
    # A driver may forget turns with the functions: they are taken off while those are there, and
    # set when the new ones are, so that the way back has its functions too. Set before, they might
    # end the driver's equal shares of memory.
    free = _wanted_turns(there, VirtualFunctions(count=0)) if functions.count else there
    before, after = _turn_steps(gpu, there, free), _turn_steps(gpu, free, turns)
    return (*before, *off, *settings, *on, *after)


def functions_off(gpu: PartitionedGpu) -> tuple[Step, ...]:
    """The steps to no virtual function; raises Refused or Waiting."""
    if gpu.functions is None or not gpu.functions.count:
        return ()
    return function_steps(gpu, VirtualFunctions(count=0))


def _checked(gpu: PartitionedGpu, wish: VirtualFunctions) -> Functions:
    functions = gpu.functions
    if functions is None:
        raise Refused(f"this {gpu.product} offers no virtual functions here")
    if functions.fixed:
        raise Refused(functions.fixed)
    if wish.count > functions.most:
        raise Refused(
            f"{wish.count} virtual functions do not fit: sriov_totalvfs is {functions.most}"
        )
    if wish.driver not in (None, functions.driver):
        raise Refused(f"the GPU's driver is {functions.driver}, not {wish.driver}")
    size, whole = wish.memory_bytes, functions.memory_bytes
    if size is not None and not functions.quotas:
        raise Refused("this driver has no vram_quota: leave memory away for equal shares")
    if size is not None and whole is not None and size * wish.count > whole:
        raise Refused(
            f"{wish.count} × {size} bytes are more than the {whole} bytes of the GPU's memory"
        )
    if wish.compute is not None and len(_turns(functions)) < len(TURNS):
        raise Refused(
            "this driver has no sriov_admin/vf<n>/profile with exec_quantum_ms and"
            " preempt_timeout_us that can be read, as xe has since Linux 6.19: leave compute away"
        )
    return functions


def _turns(functions: Functions) -> Turns:
    read = ((Verb.QUANTUM, functions.quanta_ms), (Verb.PREEMPTION, functions.timeouts_us))
    return {verb: values for verb, values in read if values is not None}


def _wanted_turns(there: Turns, wish: VirtualFunctions) -> Turns:
    """The same for each wanted function, for those beyond the count none."""
    percent = wish.compute_percent
    quantum = 0 if percent is None else max(percent, LEAST_MS)
    each = {Verb.QUANTUM: quantum, Verb.PREEMPTION: quantum * US_PER_MS}
    return {
        verb: tuple(each[verb] if n < wish.count else 0 for n in range(len(values)))
        for verb, values in there.items()
    }


def _turn_steps(gpu: PartitionedGpu, there: Turns, wanted: Turns) -> tuple[Step, ...]:
    return tuple(
        Step(
            gpu=gpu.id,
            verb=verb,
            name=" ".join(map(str, values)),
            number=values[0],
            was_name=" ".join(map(str, there[verb])),
            was_number=there[verb][0],
        )
        for verb, values in wanted.items()
        if values != there[verb]
    )


def _settings(
    gpu: PartitionedGpu, functions: Functions, wish: VirtualFunctions
) -> tuple[Step, ...]:
    """What is set before the functions are enabled: their drivers, and the memory of each."""
    steps = []
    if wish.driver is not None and not functions.autoprobe:
        steps.append(Step(gpu=gpu.id, verb=Verb.AUTOPROBE, number=1, was_number=0))
    size, quota = wish.memory_bytes, functions.quota_bytes or 0
    if size is None and functions.count != wish.count:
        size = 0  # equal shares; while functions are there, a share reads as a quota does
    if size is not None and not is_quota(size, quota):
        steps.append(
            Step(
                gpu=gpu.id,
                verb=Verb.QUOTA,
                name=str(wish.count),
                number=size,
                was_name=str(functions.count or wish.count),
                was_number=quota,
            )
        )
    return tuple(steps)


def _functions(gpu: PartitionedGpu, count: int, was: int) -> Step:
    return Step(gpu=gpu.id, verb=Verb.FUNCTIONS, number=count, was_number=was)

"""Virtual functions: from those that are there to those that are wanted; pure.

The order of the steps is that of the PCI core (a count other than zero goes to another only by
zero; whether drivers take new functions is said before those are there) and of the xe driver
(memory before the functions are enabled).
"""

from collections.abc import Mapping, Sequence

from deviceplugin.provision.section import VirtualFunctions
from deviceplugin.provision.values import Refused, Waiting
from deviceplugin.vendor.partitions import (
    TURNS,
    UNBOUND,
    VFIO,
    Functions,
    PartitionedGpu,
    Step,
    Verb,
    is_quota,
)

LEAST_MS = 4  # the shortest turn in Intel's own profiles; those of equal functions stay equal
US_PER_MS = 2000  # a function has twice its turn to give the GPU up, as in Intel's own profiles
Turns = Mapping[Verb, tuple[int, ...]]


def function_steps(gpu: PartitionedGpu, wish: VirtualFunctions) -> tuple[Step, ...]:
    """The steps to so many virtual functions; raises Refused or Waiting."""
    functions = _checked(gpu, wish)
    quotas = _quotas(gpu, functions, wish) if wish.count else ()
    if functions.count == wish.count and not quotas:
        return _kept(gpu, functions, wish)
    _nobody_in(functions)
    # A driver may forget turns with the functions: they are taken off while those are there, and
    # set when the new ones are, so that the way back has its functions too. Set before, they might
    # end the driver's equal shares of memory. What has another driver than it would come back with
    # is let go first for the same reason.
    there = _turns(functions)
    free = _wanted_turns(there, VirtualFunctions(count=0)) if functions.count else there
    off = (
        *_turn_steps(gpu, there, free),
        *_let_go(gpu, functions),
        *((_functions(gpu, 0, functions.count),) if functions.count else ()),
    )
    on = (_functions(gpu, wish.count, 0), *_taken(gpu, wish)) if wish.count else ()
    turns = _turn_steps(gpu, free, _wanted_turns(there, wish))
    return (*off, *_autoprobe(gpu, functions, wish), *quotas, *on, *turns)


def functions_off(gpu: PartitionedGpu) -> tuple[Step, ...]:
    """The steps to no virtual function; raises Refused or Waiting."""
    if gpu.functions is None or not gpu.functions.count:
        return ()
    return function_steps(gpu, VirtualFunctions(count=0))


def _checked(gpu: PartitionedGpu, wish: VirtualFunctions) -> Functions:
    functions = gpu.functions
    if functions is None:
        raise Refused(f"this {gpu.product} offers no virtual functions here")
    if functions.fixed and (wish.count != functions.count or wish.memory or wish.compute):
        raise Refused(functions.fixed)
    if wish.count > functions.most:
        raise Refused(
            f"{wish.count} virtual functions do not fit: sriov_totalvfs is {functions.most}"
        )
    _check_driver(gpu, functions, wish.driver)
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


def _check_driver(gpu: PartitionedGpu, functions: Functions, driver: str | None) -> None:
    """Raises Refused for a driver that its functions cannot have here."""
    if driver is None:
        return
    if driver not in (functions.native, VFIO):
        known = " or ".join(filter(None, (functions.native, VFIO)))
        raise Refused(f"virtual functions of this {gpu.product} take {known}, not {driver}")
    if driver not in functions.loaded:
        raise Refused(f"{driver} is not loaded on this node: modprobe {driver}")
    if driver == VFIO and functions.unassignable:
        raise Refused(functions.unassignable)


def _nobody_in(functions: Functions) -> None:
    if functions.count and functions.held:
        holders = ", ".join(functions.held)
        raise Waiting(functions.held, f"virtual functions are in use: {holders}")


def _kept(gpu: PartitionedGpu, functions: Functions, wish: VirtualFunctions) -> tuple[Step, ...]:
    """The functions stay: their drivers and turns alone change."""
    there = _turns(functions)
    turns = _turn_steps(gpu, there, _wanted_turns(there, wish)) if wish.compute else ()
    wanted = (wish.driver or "",) * functions.count
    if wish.driver is None or functions.drivers == wanted:
        return turns
    _nobody_in(functions)
    return (_driver(gpu, wanted, functions.drivers), *turns)


def _let_go(gpu: PartitionedGpu, functions: Functions) -> tuple[Step, ...]:
    """Those go from their driver that would come back with another one, or with none."""
    default = functions.native if functions.autoprobe else UNBOUND
    left = tuple(one if one == default else UNBOUND for one in functions.drivers)
    return (_driver(gpu, left, functions.drivers),) if left != functions.drivers else ()


def _taken(gpu: PartitionedGpu, wish: VirtualFunctions) -> tuple[Step, ...]:
    """Drivers of functions that are new."""
    if wish.driver is None:
        return ()
    return (_driver(gpu, (wish.driver,) * wish.count, (UNBOUND,) * wish.count),)


def _autoprobe(
    gpu: PartitionedGpu, functions: Functions, wish: VirtualFunctions
) -> tuple[Step, ...]:
    """Whether the kernel gives new functions to a driver: not those that are for machines, and
    where none are left as it does by itself."""
    probe = functions.autoprobe if wish.driver is None else wish.driver != VFIO
    probe = probe or not wish.count
    if probe == functions.autoprobe:
        return ()
    verb = Verb.AUTOPROBE
    return (Step(gpu=gpu.id, verb=verb, number=int(probe), was_number=int(not probe)),)


def _driver(gpu: PartitionedGpu, wanted: Sequence[str], there: Sequence[str]) -> Step:
    return Step(gpu=gpu.id, verb=Verb.DRIVER, name=" ".join(wanted), was_name=" ".join(there))


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


def _quotas(gpu: PartitionedGpu, functions: Functions, wish: VirtualFunctions) -> tuple[Step, ...]:
    """The memory of each, which is set before the functions are enabled."""
    size, quota = wish.memory_bytes, functions.quota_bytes or 0
    if size is None and functions.count != wish.count:
        size = 0  # equal shares; while functions are there, a share reads as a quota does
    if size is None or is_quota(size, quota):
        return ()
    return (
        Step(
            gpu=gpu.id,
            verb=Verb.QUOTA,
            name=str(wish.count),
            number=size,
            was_name=str(functions.count or wish.count),
            was_number=quota,
        ),
    )


def _functions(gpu: PartitionedGpu, count: int, was: int) -> Step:
    return Step(gpu=gpu.id, verb=Verb.FUNCTIONS, number=count, was_number=was)

"""Compute and memory modes: from those that are there to those that are wanted; pure.

The memory modes that a compute mode can have stand in the kernel's
drivers/gpu/drm/amd/amdgpu/aqua_vanjaram.c. Another memory mode is only noted by the driver until
that is loaded again, for all of its GPUs (amdgpu_gmc.c): so it is one step for the node, with the
compute modes that come after it.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from deviceplugin.provision.section import Layout
from deviceplugin.provision.values import Peer, Refused, Waiting
from deviceplugin.vendor.partitions import Modes, PartitionedGpu, Setting, Step, Verb

MEMORY_MODES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "SPX": ("NPS1",),
        "DPX": ("NPS1", "NPS2"),
        "TPX": ("NPS1", "NPS4"),
        "QPX": ("NPS1", "NPS4"),
        "CPX": ("NPS1", "NPS2", "NPS4"),
    }
)
WHOLE = Layout(compute="SPX", memory="NPS1")


def peers_of(gpus: Sequence[tuple[PartitionedGpu, Layout | None]]) -> tuple[Peer, ...]:
    """Those whose driver is loaded again together, as their layouts want them."""
    found = []
    for gpu, layout in gpus:
        wish = WHOLE if layout is not None and layout.none else layout
        compute, memory = (wish.compute, wish.memory) if wish is not None else (None, None)
        if gpu.reloaded:
            found.append(Peer(gpu=gpu, compute=compute, memory=memory))
    return tuple(found)


def mode_steps(gpu: PartitionedGpu, layout: Layout, peers: Sequence[Peer]) -> tuple[Step, ...]:
    """The steps to these modes; `peers` are all GPUs of its driver, itself included. Raises Refused
    or Waiting."""
    modes, compute, memory = gpu.modes, layout.compute, layout.memory
    if modes is None:
        raise Refused(f"this {gpu.product} has no compute modes")
    if memory is not None and memory != modes.memory:
        if modes.memory is not None:
            every = peers or (Peer(gpu=gpu, compute=compute, memory=memory),)
            return (_memory_step(gpu, modes, memory, every),)
        if memory != WHOLE.memory:
            raise Refused(f"this {gpu.product} tells no memory mode")
    if compute is None or compute == modes.compute:
        return ()
    if modes.memory is not None:
        _check_pair(compute, modes.memory, "it is")
    if compute not in modes.available:
        known = ", ".join(modes.available) or "none"
        raise Refused(f"{compute} is no mode of this {gpu.product} now; the driver offers {known}")
    if gpu.users:
        raise Waiting(gpu.users, f"the GPU is in use by {', '.join(gpu.users)}")
    return (Step(gpu=gpu.id, verb=Verb.COMPUTE, name=compute, was_name=modes.compute),)


def _check_pair(compute: str, memory: str, verb: str) -> None:
    if memory not in MEMORY_MODES[compute]:
        allowed = " or ".join(MEMORY_MODES[compute])
        raise Refused(f"{compute} needs the memory mode {allowed}, and {verb} {memory}")


def _memory_step(gpu: PartitionedGpu, modes: Modes, memory: str, peers: Sequence[Peer]) -> Step:
    if modes.memories and memory not in modes.memories:
        known = ", ".join(modes.memories)
        raise Refused(f"{memory} is no memory mode of this {gpu.product}; it offers {known}")
    if modes.fixed:
        raise Refused(modes.fixed)
    for one in peers:
        _check_peer(one, memory)
    _nobody_on(modes, memory, peers)
    leading = next(one.gpu.id for one in peers if _memory(one) not in (None, memory))
    if leading != gpu.id:
        raise Waiting((), f"the memory mode of all GPUs changes at once, with that of {leading}")
    return Step(
        gpu=gpu.id,
        verb=Verb.MEMORY,
        name=memory,
        was_name=modes.memory or "",
        settings=tuple(_wanted(one, memory) for one in peers),
        were=tuple(_there(one) for one in peers),
    )


def _nobody_on(modes: Modes, memory: str, peers: Sequence[Peer]) -> None:
    users = dict.fromkeys(modes.beside)
    users |= {f"{user} on {one.gpu.address}": None for one in peers for user in one.gpu.users}
    if users:
        text = ", ".join(users)
        raise Waiting(tuple(users), f"a GPU of the node is in use, by {text}; {memory} is for all")


def _check_peer(one: Peer, memory: str) -> None:
    """Raises Refused for a GPU that the driver would change too, and that is not to be."""
    there = _memory(one)
    if there is None:
        return
    wanted = one.memory or there
    if wanted != memory:
        raise Refused(
            f"{memory} is for all GPUs of the node at once: give {one.gpu.address} the same"
            f" memory mode, which is {wanted} by its layout"
            if one.memory
            else f"{memory} is for all GPUs of the node at once, and no layout gives it to"
            f" {one.gpu.address}, which has {there}"
        )
    if one.compute is not None:
        _check_pair(one.compute, memory, f"{one.gpu.address} would have")


def _memory(one: Peer) -> str | None:
    return one.gpu.modes.memory if one.gpu.modes is not None else None


def _wanted(one: Peer, memory: str) -> Setting:
    """A compute mode that no layout names stays where its memory mode does."""
    there = _there(one)
    if not there.memory:
        return there
    kept = there.compute if there.memory == memory else ""
    return Setting(gpu=one.gpu.id, compute=one.compute or kept, memory=memory)


def _there(one: Peer) -> Setting:
    modes = one.gpu.modes
    if modes is None or modes.memory is None:
        return Setting(gpu=one.gpu.id)
    return Setting(gpu=one.gpu.id, compute=modes.compute, memory=modes.memory)

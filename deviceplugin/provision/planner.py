"""The plan: from the hardware as it was read and the layouts that are wanted to steps; pure."""

from collections.abc import Callable, Collection, Mapping, Sequence

from msgspec.structs import replace

from deviceplugin.provision.exact import check_on_demand, exact_steps, kept_texts
from deviceplugin.provision.functions import function_steps, functions_off
from deviceplugin.provision.mig import mig_off, mig_steps
from deviceplugin.provision.modes import WHOLE, mode_steps, peers_of
from deviceplugin.provision.section import Layout, Selector
from deviceplugin.provision.values import Place, Plan, Planned, Refused, Waiting
from deviceplugin.vendor.partitions import PartitionedGpu, Step

CLAIMS = "as claims ask"
Made = Mapping[str, frozenset[Place]]  # by GPU
Held = Mapping[str, Mapping[Place, str]]


def plan_node(
    gpus: Sequence[PartitionedGpu], layouts: Sequence[Layout], made: Made, held: Held
) -> tuple[Planned, ...]:
    """The answer for every GPU that a layout selects, in order."""
    chosen = [(gpu, _layout(gpu, layouts)) for gpu in gpus]
    peers = peers_of(chosen)
    found = []
    for gpu, layout in chosen:
        if layout is not None:
            plan = Plan(
                made=made.get(gpu.id, frozenset()),
                held=held.get(gpu.id, {}),
                adopt=layout.adopt,
                peers=tuple(one for one in peers if one.gpu.vendor == gpu.vendor),
            )
            found.append(plan_gpu(gpu, layout, plan))
    return tuple(found)


def _layout(gpu: PartitionedGpu, layouts: Sequence[Layout]) -> Layout | None:
    return next((one for one in layouts if selects(one.select, gpu)), None)


def plan_gpu(gpu: PartitionedGpu, layout: Layout, plan: Plan) -> Planned:
    """The steps from a GPU as it is to the layout, or why there are none."""
    answer = Planned(
        gpu=gpu,
        wish=wish_text(layout),
        state="as-wanted",
        made=tuple(sorted(plan.made)),
        on_demand=layout.on_demand,
    )
    return _answered(answer, lambda: _steps(gpu, layout, plan))


def plan_fit(gpu: PartitionedGpu, places: Collection[Place], plan: Plan, *, whole: bool) -> Planned:
    """The steps from a GPU as it is to what claims ask of it, or why there are none."""
    answer = Planned(
        gpu=gpu,
        wish=CLAIMS,
        state="as-wanted",
        reason="; ".join(kept_texts(gpu, places, plan)),
        made=tuple(sorted(plan.made)),
        on_demand=True,
    )
    return _answered(answer, lambda: exact_steps(gpu, places, plan, whole=whole))


def _answered(answer: Planned, steps_of: Callable[[], tuple[Step, ...]]) -> Planned:
    try:
        steps = steps_of()
    except Refused as refused:
        return replace(answer, state="refused", reason=str(refused))
    except Waiting as waiting:
        return replace(answer, state="pending", reason=str(waiting))
    return replace(answer, state="change", steps=steps) if steps else answer


def selects(select: Selector, gpu: PartitionedGpu) -> bool:
    """Whether the GPU fulfils every key that is given."""
    tests: tuple[tuple[object, Callable[[], bool]], ...] = (
        (select.vendor, lambda: select.vendor == gpu.vendor),
        (select.product, lambda: str(select.product).lower() in gpu.product.lower()),
        (select.index, lambda: gpu.index in (select.index or ())),
        (select.id, lambda: select.id == gpu.id),
        (select.address, lambda: str(select.address).lower() == gpu.address.lower()),
        (select.device, lambda: _is_one_of(gpu.device, select.device or ())),
    )
    return all(test() for given, test in tests if given is not None)


def _is_one_of(device: str, wanted: Sequence[str]) -> bool:
    return device.lower() in {one.lower() for one in wanted}


def wish_text(layout: Layout) -> str:
    """A layout in one line."""
    if layout.on_demand:
        return CLAIMS
    if layout.mig is not None:
        return " + ".join(f"{n}×{name}" for name, n in layout.mig.items() if n) or "MIG mode alone"
    if layout.virtual_functions is not None:
        wish = layout.virtual_functions
        parts = [f"{wish.count} virtual functions"]
        parts += [f"of {wish.memory}"] if wish.memory else []
        parts += [f"with {wish.compute} of the time each"] if wish.compute else []
        return " ".join(parts + ([f"for {wish.driver}"] if wish.driver else []))
    return "whole" if layout.none else " ".join(filter(None, (layout.compute, layout.memory)))


def _steps(gpu: PartitionedGpu, layout: Layout, plan: Plan) -> tuple[Step, ...]:
    if layout.mig is not None:
        return mig_steps(gpu, layout.mig, plan)
    if layout.virtual_functions is not None:
        return function_steps(gpu, layout.virtual_functions)
    if layout.on_demand:
        return check_on_demand(gpu)
    if not layout.none:
        return mode_steps(gpu, layout, plan.peers)
    modes = mode_steps(gpu, WHOLE, plan.peers) if gpu.modes is not None else ()
    return (*mig_off(gpu, plan), *functions_off(gpu), *modes)

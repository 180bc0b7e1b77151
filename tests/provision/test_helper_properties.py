"""Whatever is wished, held and goes wrong: no held instance is destroyed, no two overlap, and what
was begun ends as it was before or as it was wanted."""

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from deviceplugin.errors import VendorError
from deviceplugin.provision.helper import Around, Helper
from deviceplugin.provision.protocol import Apply, Look, Recover
from deviceplugin.provision.section import Layout
from deviceplugin.provision.values import Held
from deviceplugin.vendor.partitions import Instance, PartitionedGpu, Step, Verb
from tests.provision.model import after, assert_apart, place_of
from tests.provision.products import PRODUCTS, product


class Hands:
    """A GPU as a value; the calls of the numbers in `broken` fail."""

    def __init__(self, name: str, broken: frozenset[int]) -> None:
        self.gpu, self.broken, self.calls = product(name), broken, 0

    @property
    def instances(self) -> tuple[Instance, ...]:
        assert self.gpu.mig is not None
        return self.gpu.mig.instances

    def read(self) -> Sequence[PartitionedGpu]:
        assert self.gpu.mig is not None
        named = tuple(replace(one, devices=(id_of(one),)) for one in self.instances)
        return [replace(self.gpu, mig=replace(self.gpu.mig, instances=named))]

    def apply(self, step: Step) -> None:
        self.calls += 1
        if self.calls in self.broken:
            raise VendorError(f"call {self.calls} fails")
        self.gpu = after(self.gpu, [step])

    def is_done(self, step: Step) -> bool:
        assert self.gpu.mig is not None
        if step.verb is Verb.MIG_MODE:
            return self.gpu.mig.enabled == bool(step.number)
        there = place_of(step) in {(one.profile, one.start) for one in self.instances}
        return there == (step.verb is Verb.CREATE)

    def close(self) -> None:
        pass


def id_of(one: Instance) -> str:
    return f"MIG-{one.profile}-{one.start}"


ROUNDS = st.lists(
    st.tuples(
        st.dictionaries(st.integers(0, 6), st.integers(0, 3), max_size=3),
        st.sets(st.integers(0, 6), max_size=2),
    ),
    min_size=1,
    max_size=5,
)
BROKEN = st.frozensets(st.integers(1, 30), max_size=6)


@settings(max_examples=60)
@given(st.sampled_from(sorted(PRODUCTS)), ROUNDS, BROKEN, st.booleans())
def test_what_is_held_stays_whatever_fails(
    name: str,
    rounds: list[tuple[dict[int, int], set[int]]],
    broken: frozenset[int],
    late: bool,  # a pod may come between plan and change
) -> None:
    with TemporaryDirectory() as folder:
        hands = Hands(name, broken)
        helper = Helper({"nvidia": hands}, Around(state_dir=Path(folder), boot="boot"))
        for wish, held_at in rounds:
            one_round(helper, hands, wish, held_at, late=late)


def one_round(
    helper: Helper, hands: Hands, wish: dict[int, int], held_at: set[int], *, late: bool
) -> None:
    assert hands.gpu.mig is not None
    names = [profile.name for profile in hands.gpu.mig.profiles]
    layout = Layout(mig={names[i % len(names)]: count for i, count in wish.items()})
    gpu, before = hands.gpu.id, set(hands.instances)
    pods = [one for one in hands.instances if one.start in held_at]
    held = tuple(Held(gpu=gpu, device=id_of(one), holder="pod") for one in pods)
    answer = helper.answer(Look(layouts=(layout,), held=() if late else held))
    if answer.begun:
        helper.answer(Recover(held=held))
    elif answer.planned[0].state == "change":
        steps = answer.planned[0].steps
        said = helper.answer(Apply(gpu=gpu, layout=layout, steps=steps, held=held))
        if said.outcome is not None and said.outcome.state == "undone":
            assert set(hands.instances) == before
        assert bool(said.begun) == (said.outcome is not None and said.outcome.state == "stuck")
    assert set(pods) <= set(hands.instances)
    assert_apart(hands.instances)

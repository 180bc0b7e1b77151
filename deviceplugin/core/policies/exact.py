"""The exact half of the search: branch and bound over GPUs that are given whole; pure."""

from dataclasses import dataclass

from deviceplugin.core.policies.problem import Best, Counts, dot, value_of


def search_exactly(best: Best) -> bool:
    """Improve `best` to the optimum; whether the steps sufficed for that."""
    for divided in _divisible(best):
        best.divided = divided
        _descend(best, 0, [], _start(best))
    return best.steps > 0


@dataclass(frozen=True, slots=True)
class _State:
    """A partial choice: parts still to take, its value, and what a part of each GPU would add;
    `room_after[i]` is the room from GPU i on."""

    left: int
    value: int
    near: list[int]
    room_after: Counts


def _divisible(best: Best) -> list[int | None]:
    """No GPU, then one of each kind that has more than one part to give."""
    return [
        None,
        *(at for at, kin in enumerate(best.same) if kin is None and best.spare[at] > 1),
    ]


def _start(best: Best) -> _State:
    problem, spare = best.problem, best.spare
    near = [dot(row, problem.must) - pull for row, pull in zip(best.costs, best.pull, strict=True)]
    after = tuple(sum(spare[at:]) for at in range(len(spare) + 1))
    return _State(problem.size - sum(problem.must), value_of(best, problem.must), near, after)


def _descend(best: Best, at: int, taken: list[int], state: _State) -> None:
    """Depth first through the GPUs in order; cuts what cannot become better than the best."""
    divided, must = best.divided, best.problem.must
    if state.left == 0 or (divided is not None and state.left < best.spare[divided]):
        _complete(best, (*taken, *must[at:]), state)
    best.steps -= 1
    reserve = best.spare[divided] if divided is not None else 0
    if best.steps <= 0 or not 0 < state.left <= state.room_after[at] + reserve:
        return
    if at == len(must) or _bound(best, at, state) >= best.value:
        return
    for amount in _amounts(best, at, taken, state):
        taken.append(must[at] + amount)
        _descend(best, at + 1, taken, _after(best, at, amount, state))
        taken.pop()


def _complete(best: Best, counts: Counts, state: _State) -> None:
    """The divided GPU gives what is left."""
    divided = best.divided
    if divided is None or state.left == 0:
        best.offer(counts, state.value)
        return
    filled = (*counts[:divided], counts[divided] + state.left, *counts[divided + 1 :])
    best.offer(filled, state.value + state.left * state.near[divided])


def _bound(best: Best, at: int, state: _State) -> int:
    """No completion is better: each part adds at least the nearest's, and is apart from all
    others but those that fit on its own GPU."""
    others = max(state.left - best.most, 0)
    alone = state.left * others * best.apart // 2
    nearest = min(state.near[at:])
    if best.divided is not None:
        nearest = min(nearest, state.near[best.divided])
    return state.value + state.left * nearest + alone


def _amounts(best: Best, at: int, taken: list[int], state: _State) -> tuple[int, ...]:
    """All of a GPU or nothing; nothing of the divided one and after one of its kind was left."""
    spare = best.spare[at]
    if spare == 0 or at == best.divided or spare > state.left:
        return (0,)
    before = best.same[at]
    if before is not None and before == best.divided:
        before = best.same[before]
    if before is not None and taken[before] < best.problem.room[before]:
        return (0,)
    return (spare, 0)


def _after(best: Best, at: int, amount: int, state: _State) -> _State:
    if amount == 0:
        return state
    row = best.costs[at]
    return _State(
        state.left - amount,
        state.value + amount * state.near[at],
        [near + amount * cost for near, cost in zip(state.near, row, strict=True)],
        state.room_after,
    )

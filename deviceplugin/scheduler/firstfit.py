"""What the next claim would get of a node; pure.

kube-scheduler allocates devices itself, the first that fit in the order of the slices, and so does
`first_fit`. It goes back no step: a claim whose first choice is in the way of its second is rare.
"""

from collections.abc import Sequence

from deviceplugin.scheduler.asks import ALL, Ask, ClaimAsk, Counters
from deviceplugin.scheduler.devices import Claimed, Got, Offered, got_milli
from deviceplugin.scheduler.published import Kind
from deviceplugin.scheduler.quantities import amount


def first_fit(
    claimed: Claimed, asks: Sequence[ClaimAsk], free: Sequence[int] | None = None
) -> tuple[Got, ...] | None:
    """The devices that claims would get beside what is taken; None where there are not enough.
    `free` are the thousandths left of the node's GPUs."""
    filling = _Filling(claimed, free)
    for ask in asks:
        if not filling.claim(ask):
            return None
    return tuple(filling.new)


class _Filling:
    """Devices that are taken one after the other."""

    def __init__(self, claimed: Claimed, free: Sequence[int] | None) -> None:
        self._of, self._devices = claimed, claimed.devices
        self._free: list[int] | None = None
        self._left = {key: dict(amounts) for key, amounts in self._devices.counters.items()}
        self._held: dict[int, dict[str, int]] = {}
        self.new: list[Got] = []
        for one in claimed.taken:
            self._count(one)
        self._free = None if free is None else list(free)  # what is taken is not in it

    def claim(self, ask: ClaimAsk) -> bool:
        """Take what the claim asks for, if it is there."""
        if not ask.match:
            return all(self._request(alternatives, None) for alternatives in ask.requests)
        attribute, requests = ask.match[0]
        for value in dict.fromkeys(self._value(o, attribute) for o in self._devices.devices):
            before = len(self.new)
            wanted = None if value is None else (attribute, value)
            if wanted and all(
                self._request(alternatives, wanted if at in requests else None)
                for at, alternatives in enumerate(ask.requests)
            ):
                return True
            while len(self.new) > before:
                self._count(self.new.pop(), -1)
        return False

    def _request(self, alternatives: Sequence[Ask], same: tuple[str, object] | None) -> bool:
        return not alternatives or any(self._ask(ask, same) for ask in alternatives)

    def _ask(self, ask: Ask, same: tuple[str, object] | None) -> bool:
        found: list[Got] = []
        for at, one in enumerate(self._devices.devices):
            if ask.count != ALL and len(found) == ask.count:
                break
            is_same = same is None or self._value(one, same[0]) == same[1]
            taken = Got(at, _consumed(one.device.kind, ask)) if is_same else None
            if taken and self._fits(one, taken, ask):
                self._count(taken)
                found.append(taken)
        if found and len(found) >= ask.count:
            self.new += found
            return True
        for taken in found:
            self._count(taken, -1)
        return False

    def _fits(self, one: Offered, taken: Got, ask: Ask) -> bool:
        device, kind = one.device, one.device.kind
        if device.tainted or self._of.selecting.takes(ask.selectors, kind) is False:
            return False
        held = self._held.get(taken.device)
        if held is not None and not kind.several:
            return False
        if held is not None and any(
            held.get(name, 0) + n > amount(kind.capacity.get(name, ""))
            for name, n in taken.consumed
        ):
            return False
        if held is None and any(
            self._left.get((one.pool, of), {}).get(name, 0) < n
            for of, amounts in device.takes
            for name, n in amounts
        ):
            return False
        index = self._of.at[one.gpu]
        return self._free is None or index < 0 or self._free[index] >= got_milli(one, taken)

    def _count(self, taken: Got, sign: int = 1) -> None:
        one = self._devices.devices[taken.device]
        is_first = taken.device not in self._held
        held = self._held.setdefault(taken.device, {"": 0})
        held[""] += sign
        for name, n in taken.consumed:
            held[name] = held.get(name, 0) + sign * n
        if (sign > 0 and is_first) or (sign < 0 and not held[""]):
            for of, amounts in one.device.takes:
                left = self._left.setdefault((one.pool, of), {})
                for name, n in amounts:
                    left[name] = left.get(name, 0) - sign * n
        if not held[""]:
            del self._held[taken.device]
        if self._free is not None and (index := self._of.at[one.gpu]) >= 0:
            self._free[index] -= sign * got_milli(one, taken)

    def _value(self, one: Offered, attribute: str) -> object:
        """What a claim may want to be the same; those of one GPU are told apart by the GPU."""
        name = attribute.rpartition("/")[2]
        if name == "linkGroup":
            group = self._devices.gpus[one.gpu].group
            return one.gpu if group is None else -1 - group
        if name in ("pciBusID", "parentUUID", "parentPciAddr"):
            return one.gpu
        return one.device.kind.plain(attribute)


def _consumed(kind: Kind, ask: Ask) -> Counters:
    """Of a device that several claims can have: what is asked for, or its default, or all."""
    if not kind.several:
        return ()
    wanted = {name.removeprefix(f"{kind.driver}/"): n for name, n in ask.capacity}
    return tuple(
        (name, wanted.get(name) or amount(kind.defaults.get(name, text)))
        for name, text in kind.capacity.items()
    )

"""What a pod adds to the power that GPUs take; pure.

A GPU that somebody holds is taken to draw what its model draws under load, and one that nobody
holds what it draws idle: what a pod will do with it is not known before it runs.
"""

from collections.abc import Iterable, Mapping
from types import MappingProxyType

from msgspec import Struct, field

from deviceplugin.scheduler.partitions import MILLI


class Draw(Struct, frozen=True):
    """Watts of one GPU, idle and under load."""

    idle: float
    full: float


class Power(Struct, frozen=True, kw_only=True):
    """How much power counts, and what GPUs of each model draw; of others nothing is known, and
    that costs nothing."""

    weight: int = 0
    draws: Mapping[str, Draw] = field(default_factory=lambda: MappingProxyType({}))

    def added(self, model: str, idle: int) -> float:
        """Watts that so many GPUs of a model draw more when they are held."""
        draw = self.draws.get(model)
        return idle * (draw.full - draw.idle) if draw else 0.0

    def cost(self, watts: float) -> float:
        """The same as thousandths: a GPU of the model that adds most is 1,000."""
        most = max((draw.full - draw.idle for draw in self.draws.values()), default=0.0)
        return MILLI * watts / most if most > 0 else 0.0

    def drawn(self, model: str, free: Iterable[int]) -> float:
        """Watts of a node's GPUs, by the thousandths of each that are free."""
        draw = self.draws.get(model)
        if draw is None:
            return 0.0
        return sum(draw.idle if milli >= MILLI else draw.full for milli in free)


NO_POWER = Power()

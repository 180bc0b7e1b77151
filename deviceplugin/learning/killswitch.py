"""Whether the model may speak: not while the last day was worse than the rolling median; pure."""

from collections import deque

from deviceplugin.learning.figures import Figures, median

DAY_S = 86_400.0
FEW = 20  # runs that ended in the last day: fewer say nothing
MOST = 20_000
_ROUNDED = 1e-9  # ln seconds: no more than sums of floats differ by


class KillSwitch:
    """Compares the model with the rule that needs none, by runs that ended in the last day."""

    def __init__(self) -> None:
        self._errors: deque[tuple[float, float, float]] = deque(maxlen=MOST)

    def ended(self, now: float, model: float, rolling: float) -> None:
        """A run has ended: by how much, in ln seconds, both were wrong about it."""
        self._errors.append((now, model, rolling))

    def silent(self, now: float, replayed: Figures | None = None) -> bool:
        """Whether the model has to be silent; where too few runs ended since this process began,
        by how the last day was `replayed` when the model was made."""
        while self._errors and self._errors[0][0] < now - DAY_S:
            self._errors.popleft()
        if len(self._errors) >= FEW:
            model = median([e for _, e, _ in self._errors])
            return model > median([e for _, _, e in self._errors]) + _ROUNDED
        if replayed is None or replayed.runs < FEW:
            return False
        return replayed.factor > replayed.rolling_factor

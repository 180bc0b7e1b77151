"""Whether what a container has is idle: engines, memory and power together; pure."""

from collections.abc import Mapping

from deviceplugin.cost.history import Cell, Grant, History

BELOW = 0.01  # of engines and of memory
POWER_MARGIN = 1.1  # of the power that the model takes when nobody has it
ACTIVE = 0.5  # from this activity on a GPU works
_LOW = 0.05  # the part of readings without a pod that lies below idle power


class IdleJudge:
    """Judges by what is measured; `idle` needs the engines, the memory's copies and, of a GPU
    that one container has alone, power near that of a GPU of its model that nobody has."""

    def __init__(self, history: History) -> None:
        self._devices = history.devices
        self.idle_watts: Mapping[str, float] = _idle_watts(history)

    def idle(self, cell: Cell, grant: Grant) -> bool:
        """Whether it is idle for certain."""
        return self.judged(cell, grant) is True

    def judged(self, cell: Cell, grant: Grant) -> bool | None:
        """None where a measurement that is needed is missing."""
        for measured in (grant.active, grant.copying):
            if measured is not None and measured >= BELOW:
                return False
        watts = self._watts(cell, grant)
        limit = self.idle_watts.get(self._devices[cell.device].model)
        if watts is not None and limit is not None and watts > limit * POWER_MARGIN:
            return False
        return True if not self.missing(cell, grant) else None

    def missing(self, cell: Cell, grant: Grant) -> tuple[str, ...]:
        """What is not measured of it and would be needed."""
        found = []
        if grant.active is None:
            found.append("engine activity")
        if grant.copying is None:
            found.append("memory activity")
        if self._is_alone(cell, grant):
            if cell.readings.power_watts is None:
                found.append("power")
            if self._devices[cell.device].model not in self.idle_watts:
                found.append("idle power of the model")
        return tuple(found)

    def _watts(self, cell: Cell, grant: Grant) -> float | None:
        return cell.readings.power_watts if self._is_alone(cell, grant) else None

    def _is_alone(self, cell: Cell, grant: Grant) -> bool:
        """Power of a GPU says something of one container only where it has the GPU alone."""
        return len(cell.grants) == 1 and not self._devices[cell.device].parent


def works(cell: Cell) -> bool:
    """Whether a GPU works in most of the time; an activity that was not measured counts as none."""
    return sum(grant.active or 0.0 for grant in cell.grants) >= ACTIVE


def _idle_watts(history: History) -> Mapping[str, float]:
    """By model: a low reading of those GPUs that nobody had and that are not cut."""
    cut = {device.parent for device in history.devices.values()}
    found: dict[str, list[float]] = {}
    for cell in history.cells:
        watts = cell.readings.power_watts
        device = history.devices[cell.device]
        if watts is not None and not cell.grants and not device.parent and device.id not in cut:
            found.setdefault(device.model, []).append(watts)
    return {model: sorted(all_)[int(_LOW * len(all_))] for model, all_ in found.items()}

"""Reads the hours of containers and devices from a store, as bills and advice need them."""

from collections.abc import Iterator

from deviceplugin.cost.history import Cell, Device, History
from deviceplugin.cost.series import NEEDED, QUERIES, STEP_S, history_of
from deviceplugin.metrics.reply import StoreError
from deviceplugin.metrics.store import Store

# What is asked for at once, so that no more answers than these are held beside the history.
WINDOW_S = 7 * 86400.0


def read_past(store: Store, now: float, days: int, team_label: str) -> History:
    """The whole hours of so many days before `now`; raises StoreError, also for a store that has
    none of them."""
    end = now // STEP_S * STEP_S
    devices: dict[str, Device] = {}
    cells: list[Cell] = []
    for first, last in _windows(end - (days * 24 - 1) * STEP_S, end):
        found = history_of(
            {name: store.range(query, first, last, STEP_S) for name, query in QUERIES.items()},
            team_label,
        )
        devices.update(found.devices)
        cells += found.cells
    if not cells:
        metrics = " and ".join(QUERIES[name] for name in NEEDED)
        raise StoreError(f"the store has no hour of the last {days} days of {metrics}")
    return History(
        devices=devices, cells=tuple(sorted(cells, key=lambda cell: (cell.device, cell.start)))
    )


def _windows(start: float, end: float) -> Iterator[tuple[float, float]]:
    while start <= end:
        yield start, min(end, start + WINDOW_S - STEP_S)
        start += WINDOW_S

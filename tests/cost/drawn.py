"""Histories by chance, and prices that change."""

from datetime import UTC, datetime, timedelta

from hypothesis import strategies as st

from deviceplugin.cost.history import Cell, Device, Grant, History, Readings
from tests.cost.examples import PRICE, device

shares = st.lists(st.sampled_from([0.1, 0.125, 0.25, 1 / 3, 0.5, 0.7, 1.0]), max_size=5)
active = st.sampled_from([None, 0.0, 0.005, 0.5])
WINDOWS = ("2026-03-27", "2026-10-23")  # days before clocks change in Berlin


@st.composite
def histories(draw: st.DrawFn) -> History:
    """GPUs whole, shared or cut, for days around a change of clocks, with gaps."""
    devices: list[Device] = []
    cells: list[Cell] = []
    begin = datetime.fromisoformat(draw(st.sampled_from(WINDOWS))).replace(tzinfo=UTC)
    for number in range(draw(st.integers(1, 3))):
        root = device(f"GPU-{number}", vendor=draw(st.sampled_from(["nvidia", "amd", "intel"])))
        sizes = draw(st.lists(st.sampled_from([10, 20, 40, None]), max_size=4))
        cut = [
            device(
                f"{root.id}-{n}",
                vendor=root.vendor,
                parent=root.id,
                profile="part",
                memory_bytes=size and size << 30,
            )
            for n, size in enumerate(sizes)
        ]
        devices += [root, *cut]
        for one in (root, *cut):
            at = begin + timedelta(minutes=draw(st.integers(0, 90)))
            for _ in range(draw(st.integers(0, 6))):
                minutes = draw(st.sampled_from([7, 30, 60, 600, 1440]))
                cells.append(
                    Cell(
                        device=one.id,
                        start=at.timestamp(),
                        seconds=minutes * 60.0,
                        healthy=draw(st.booleans()),
                        grants=tuple(
                            Grant(namespace=f"ns{i % 2}", pod=f"p{i}", share=s, active=draw(active))
                            for i, s in enumerate(draw(shares))
                        ),
                        readings=Readings(power_watts=draw(st.sampled_from([None, 90.0, 700.0]))),
                    )
                )
                at += timedelta(minutes=minutes + draw(st.sampled_from([0, 0, 25])))
    return History(devices={one.id: one for one in devices}, cells=tuple(cells))


TABLE = [
    PRICE | {"vendor": "nvidia", "hourly": 2.0, "valid_until": "2026-03-29"},
    PRICE | {"vendor": "nvidia", "hourly": 4.0, "valid_until": "2026-10-25"},
    PRICE | {"vendor": "nvidia", "hourly": 1.0, "energy": {"tariff_kwh": 0.3, "watts": 100}},
    PRICE | {"vendor": "amd", "hourly": 1.5},
]

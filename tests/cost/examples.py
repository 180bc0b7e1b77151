"""Histories and prices for tests."""

from datetime import datetime
from typing import Any

from deviceplugin.config.schema import decode
from deviceplugin.cost.history import Cell, Device, Grant, History
from deviceplugin.cost.section import CostsSection

HOUR = 3600.0
START = datetime.fromisoformat("2026-03-02T00:00:00+00:00").timestamp()
H100 = "NVIDIA H100 80GB HBM3"
PRICE = {"source": "a contract", "dated": "2026-01-01", "hourly": 3.0}


def costs(**keys: Any) -> CostsSection:
    section: CostsSection = decode({"prices": [PRICE]} | keys, CostsSection, "cost")
    return section


def device(name: str = "GPU-0", **keys: Any) -> Device:
    own: dict[str, Any] = {"node": "n1", "vendor": "nvidia", "model": H100}
    return Device(id=name, **(own | {"memory_bytes": 80 << 30} | keys))


def partition(name: str, gibibytes: int, **keys: Any) -> Device:
    own: dict[str, Any] = {
        "parent": "GPU-0",
        "profile": f"{gibibytes}gb",
        "memory_bytes": gibibytes << 30,
    }
    return device(name, **(own | keys))


def grant(pod: str = "p", share: float = 1.0, active: float | None = 0.5, **keys: Any) -> Grant:
    own: dict[str, Any] = {"namespace": "ml", "pod": pod, "share": share, "active": active}
    return Grant(**(own | keys))


def cell(*grants: Grant, of: str = "GPU-0", hour: float = 0, hours: float = 1, **keys: Any) -> Cell:
    return Cell(
        device=of, start=START + hour * HOUR, seconds=hours * HOUR, grants=tuple(grants), **keys
    )


def history(*cells: Cell, devices: tuple[Device, ...] = (device(),)) -> History:
    return History(devices={one.id: one for one in devices}, cells=cells)

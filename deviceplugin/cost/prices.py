"""The price of a device at a moment; pure."""

from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase

from msgspec import Struct

from deviceplugin.cost.history import Device
from deviceplugin.cost.section import CostsSection, Energy, Price, midnight


class Rate(Struct, frozen=True, kw_only=True):
    """What one device costs: by the hour, and by the energy that it takes where that is paid
    apart."""

    hourly: float
    energy: Energy | None
    price: Price

    def of(self, hours: float, kwh: float | None) -> float:
        """What so many hours cost, with the energy that was used in them."""
        amount = self.hourly * hours
        if self.energy is None:
            return amount
        return amount + (kwh or 0.0) * self.energy.tariff_kwh * self.energy.pue


class PriceTable:
    """The prices of a file."""

    def __init__(self, costs: CostsSection) -> None:
        self._costs = costs
        self._found: dict[tuple[str, str, str, str], tuple[tuple[float, float, Rate], ...]] = {}
        self._countries: dict[str, str | None] = {}
        self.changes = tuple(sorted(set(self._bounds())))

    def rate(self, device: Device, at: float) -> Rate | None:
        """The price at a moment in Unix seconds; None where no price is for it."""
        for start, end, rate in self._fitting(device):
            if start <= at < end:
                return rate
        return None

    def country(self, device: Device) -> str | None:
        """Where the node stands, as it was stated."""
        if device.node not in self._countries:
            nodes = self._costs.nodes
            own = (node.country for node in nodes if fnmatchcase(device.node, node.match))
            found = next((country for country in own if country), self._costs.country)
            self._countries[device.node] = found
        return self._countries[device.node]

    def _fitting(self, device: Device) -> Sequence[tuple[float, float, Rate]]:
        key = (device.vendor, device.model, device.profile, device.node)
        if key not in self._found:
            self._found[key] = tuple(
                (*self._window(price), _rate(price))
                for price in self._costs.prices
                if self._fits(price, device)
            )
        return self._found[key]

    def _fits(self, price: Price, device: Device) -> bool:
        lifecycle = next(
            (n.lifecycle for n in self._costs.nodes if fnmatchcase(device.node, n.match)), None
        )
        return (
            fnmatchcase(device.vendor, price.vendor)
            and fnmatchcase(device.model.lower(), price.model.lower())
            and fnmatchcase(device.profile, price.partition)
            and price.lifecycle in (None, lifecycle)
        )

    def _window(self, price: Price) -> tuple[float, float]:
        zone = self._costs.zone
        start = midnight(price.valid_from, zone) if price.valid_from else float("-inf")
        end = midnight(price.valid_until, zone) if price.valid_until else float("inf")
        return start, end

    def _bounds(self) -> Iterator[float]:
        """The moments at which some price begins or ends."""
        for price in self._costs.prices:
            yield from (one for one in self._window(price) if abs(one) != float("inf"))


def _rate(price: Price) -> Rate:
    return Rate(hourly=price.fixed_hourly, energy=price.energy, price=price)

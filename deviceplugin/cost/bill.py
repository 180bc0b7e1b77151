"""The bill: every hour of every GPU at its price, divided among those who had it; pure."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence

from msgspec import Struct

from deviceplugin.cost.history import Cell, Device, History
from deviceplugin.cost.pieces import Divider, Part, Piece, Slice, midnights, pieces
from deviceplugin.cost.prices import PriceTable, Rate
from deviceplugin.cost.section import CostsSection, fraction

JOULES_OF_A_KWH = 3.6e6


class Line(Struct, frozen=True, kw_only=True, gc=False):
    """A part of the bill. `gpu_hours` are those of whole GPUs; `kwh` and `kg_co2` are None where
    nothing tells them, `measured` whether activity was."""

    start: float
    end: float
    device: Device
    part: Part
    amount: float
    gpu_hours: float
    namespace: str = ""
    pod: str = ""
    container: str = ""
    owner: str = ""
    team: str = ""
    measured: bool = True
    kwh: float | None = None
    kg_co2: float | None = None
    lifecycle: str = ""


class Charge(Struct, frozen=True, kw_only=True, gc=False):
    """What a GPU costs for a while, whoever has it; `kwh` is None where nothing tells it."""

    device: Device
    piece: Piece
    rate: Rate
    amount: float
    kwh: float | None


class Bill(Struct, frozen=True, kw_only=True):
    """All lines. `total` is summed by GPU and not by line. `unpriced` are the GPU hours by model
    for which there is no price: they are in no line. `unmetered` are GPU hours whose energy is
    paid and was not measured: their energy is missing."""

    currency: str
    span: tuple[float, float]
    lines: tuple[Line, ...]
    total: float
    unpriced: Mapping[str, float]
    unmetered: float

    def amount(self, fits: Callable[[Line], bool]) -> float:
        """The lines that fit, together."""
        return math.fsum(line.amount for line in self.lines if fits(line))

    def of(self, part: Part) -> float:
        """One of the four parts."""
        return self.amount(lambda line: line.part == part)


class Biller:
    """Makes bills by one file of prices; `intensity` is in g CO₂e for each kWh, by country."""

    def __init__(self, costs: CostsSection, intensity: Mapping[str, float] | None = None) -> None:
        self._costs = costs
        self._prices = PriceTable(costs)
        self._intensity = intensity or {}

    def bill(self, history: History) -> Bill:
        """The bill of a history."""
        run, divider = _Run(), self.divider(history)
        for device, piece in self.pieces(history):
            charge = self.charge(device, piece)
            if charge is None:
                run.unpriced[device.model] = run.unpriced.get(device.model, 0.0) + piece.hours
            else:
                self._add(run, charge, divider.slices(piece))
        return Bill(
            currency=self._costs.currency,
            span=history.span,
            lines=tuple(run.lines),
            total=math.fsum(run.totals),
            unpriced=run.unpriced,
            unmetered=run.unmetered,
        )

    def divider(self, history: History) -> Divider:
        """Who has which part of the GPUs of a history."""
        return Divider(history, fraction(self._costs.active_below))

    def pieces(self, history: History) -> Iterator[tuple[Device, Piece]]:
        """The time of each GPU, one GPU after the other."""
        cuts = sorted({*self._prices.changes, *midnights(*history.span, self._costs.zone)})
        for root, cells in history.by_root().items():
            device = history.devices.get(root) or _as_whole(history.devices[cells[0].device], root)
            for piece in pieces(cells, cuts):
                yield device, piece

    def charge(self, device: Device, piece: Piece) -> Charge | None:
        """What a GPU costs for a while; None where no price is for it."""
        rate = self._prices.rate(device, piece.start)
        if rate is None:
            return None
        kwh = _kwh(piece, device, rate)
        return Charge(
            device=device, piece=piece, rate=rate, kwh=kwh, amount=rate.of(piece.hours, kwh)
        )

    def _add(self, run: "_Run", charge: Charge, slices: Iterator[Slice]) -> None:
        if charge.kwh is None and charge.rate.energy is not None:
            run.unmetered += charge.piece.hours
        run.totals.append(charge.amount)
        carbon = self._carbon(charge.device, charge.rate, charge.kwh)
        run.lines += [_line(charge, one, carbon) for one in slices]

    def _carbon(self, device: Device, rate: Rate, kwh: float | None) -> float | None:
        grams = self._intensity.get(self._prices.country(device) or "")
        if grams is None or kwh is None:
            return None
        return kwh * (rate.energy.pue if rate.energy else 1.0) * grams / 1000


class _Run:
    """What a bill is made of on the way."""

    def __init__(self) -> None:
        self.lines: list[Line] = []
        self.totals: list[float] = []
        self.unpriced: dict[str, float] = {}
        self.unmetered = 0.0


def _as_whole(part: Device, root: str) -> Device:
    """The GPU of a partition, where the history does not describe it."""
    return Device(id=root, node=part.node, vendor=part.vendor, model=part.model)


def _line(charge: Charge, one: Slice, carbon: float | None) -> Line:
    piece, kwh, grant = charge.piece, charge.kwh, one.grant
    price = charge.rate.price
    return Line(
        start=piece.start,
        end=piece.end,
        device=one.device,
        part=one.part,
        amount=charge.amount * one.weight,
        gpu_hours=piece.hours * one.weight,
        namespace=grant.namespace if grant else "",
        pod=grant.pod if grant else "",
        container=grant.container if grant else "",
        owner=grant.owner if grant else "",
        team=grant.team if grant else "",
        measured=grant is None or grant.active is not None,
        kwh=None if kwh is None else kwh * one.weight,
        kg_co2=None if carbon is None else carbon * one.weight,
        lifecycle=price.lifecycle or ("owned" if price.owned else ""),
    )


def _kwh(piece: Piece, root: Device, rate: Rate) -> float | None:
    """The energy of the whole GPU: its own counter, else that of all of its partitions, else the
    watts of the price."""
    own = [cell for cell in piece.cells if cell.device == root.id]
    seconds = piece.end - piece.start
    for cells in (own, [cell for cell in piece.cells if cell.device != root.id]):
        watts = _watts(cells)
        if watts is not None:
            return watts * seconds / JOULES_OF_A_KWH
    if rate.energy is not None and rate.energy.watts is not None:
        return rate.energy.watts * seconds / JOULES_OF_A_KWH
    return None


def _watts(cells: Sequence[Cell]) -> float | None:
    """The mean of the counter of energy, else of power; None unless every device tells one."""
    found: list[float] = []
    for cell in cells:
        read = cell.readings
        if read.energy_joules is not None:
            found.append(read.energy_joules / cell.seconds)
        elif read.power_watts is not None:
            found.append(read.power_watts)
    return sum(found) if found and len(found) == len(cells) else None

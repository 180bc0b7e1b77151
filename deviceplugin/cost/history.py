"""What a bill is made of: which device was there when, who had which share of it; pure."""

from collections.abc import Iterable, Mapping, Sequence

from msgspec import Struct, field


class Device(Struct, frozen=True, kw_only=True, gc=False):
    """A GPU, or a partition of one (`parent` is its id, `profile` its kind). `memory_bytes` is
    None where nothing tells it."""

    id: str
    node: str
    vendor: str
    model: str
    parent: str = ""
    profile: str = ""
    memory_bytes: int | None = None


class Grant(Struct, frozen=True, kw_only=True, gc=False):
    """What one container had of a device. `share` is 0 to 1; `active` and `copying` are the parts
    of the device's time in which it kept engines and memory busy, `memory_bytes` the most that it
    used; None: not measured."""

    namespace: str
    pod: str
    container: str = ""
    owner: str = ""
    team: str = ""
    share: float = 1.0
    active: float | None = None
    copying: float | None = None
    memory_bytes: int | None = None


class Readings(Struct, frozen=True, kw_only=True, gc=False):
    """What was measured of a device; None: not measured."""

    energy_joules: float | None = None
    power_watts: float | None = None
    power_limit_watts: float | None = None
    clock_hertz: float | None = None
    temperature_celsius: float | None = None
    throttled: float | None = None


NOTHING_READ = Readings()


class Cell(Struct, frozen=True, kw_only=True, gc=False):
    """One device for a while, an hour for instance; `start` is in Unix seconds."""

    device: str
    start: float
    seconds: float
    healthy: bool = True
    grants: tuple[Grant, ...] = ()
    readings: Readings = NOTHING_READ

    @property
    def end(self) -> float:
        """Unix seconds."""
        return self.start + self.seconds

    @property
    def granted(self) -> float:
        """The shares of all containers together."""
        return sum(grant.share for grant in self.grants)


class History(Struct, frozen=True, kw_only=True):
    """All devices by id, and their cells by device and start; cells of a device never overlap."""

    devices: Mapping[str, Device] = field(default_factory=dict)
    cells: tuple[Cell, ...] = ()

    @property
    def span(self) -> tuple[float, float]:
        """From when to when, in Unix seconds; (0, 0) of nothing."""
        if not self.cells:
            return 0.0, 0.0
        return min(cell.start for cell in self.cells), max(cell.end for cell in self.cells)

    def root_of(self, device: str) -> str:
        """The GPU of a device."""
        return self.devices[device].parent or device

    def by_root(self) -> Mapping[str, Sequence[Cell]]:
        """The cells of each GPU and its partitions."""
        found: dict[str, list[Cell]] = {}
        for cell in self.cells:
            found.setdefault(self.root_of(cell.device), []).append(cell)
        return found

    def between(self, start: float, end: float) -> "History":
        """What lies in these Unix seconds, whole cells by their start."""
        cells = tuple(cell for cell in self.cells if start <= cell.start < end)
        return History(devices=self.devices, cells=cells)

    def with_cells(self, cells: Iterable[Cell]) -> "History":
        """The same devices, other cells."""
        return History(devices=self.devices, cells=tuple(cells))

"""Parts of GPUs (MIG instances, compute partitions, virtual functions): which of those that are
free a pod takes, and what that leaves for others; pure.

The measure is that of packing, with the places that a part can have in place of thousandths: slices
that are free and that the expected parts cannot use, wherever they would be made.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import repeat
from types import MappingProxyType

from msgspec import Struct, field

MILLI = 1000  # thousandths of a GPU
MAX_PARTS = 64  # of a pod that are looked for, each among all that are free; the others count alone
Parts = Sequence[tuple[str, int]]  # resources and how many of each


class Shape(Struct, frozen=True, gc=False):
    """Parts of one resource on GPUs of `slices`: how many of them one takes, and where it can
    start. Parts of an `even` division cannot be beside others."""

    slices: int
    size: int
    starts: tuple[int, ...]
    even: bool = False

    def mask(self, start: int) -> int:
        """The slices of a part, as bits."""
        return ((1 << self.size) - 1) << start


class Shapes(Struct, frozen=True):
    """The shapes that parts can have on GPUs of a model, by resource; they only become more."""

    model: str = ""
    of: dict[str, Shape] = field(default_factory=dict)


NO_SHAPES = Shapes()


class CutGpu(Struct, frozen=True):
    """A GPU that is cut: the slices that are in use, as bits, and by resource its parts' shape and
    the starts of those that are free."""

    used: int
    parts: Mapping[str, tuple[Shape, tuple[int, ...]]]

    @property
    def shape(self) -> Shape:
        """One of its shapes; all have the same slices."""
        return next(iter(self.parts.values()))[0]

    @property
    def free_milli(self) -> int:
        """Slices that are not in use, as thousandths of a GPU."""
        slices = self.shape.slices
        return (slices - self.used.bit_count()) * MILLI // slices

    def without(self, resource: str, start: int) -> "CutGpu":
        """The same when somebody has this part."""
        shape, free = self.parts[resource]
        left = tuple(at for at in free if at != start)
        return CutGpu(self.used | shape.mask(start), {**self.parts, resource: (shape, left)})

    def again(self, resource: str, start: int) -> "CutGpu":
        """The same when nobody has this part any longer."""
        shape, free = self.parts[resource]
        back = tuple(sorted({*free, start}))
        return CutGpu(self.used & ~shape.mask(start), {**self.parts, resource: (shape, back)})


class Taken(Struct, frozen=True, order=True, gc=False):
    """A part of a GPU of the node."""

    gpu: int
    resource: str
    start: int


Cut = Mapping[int, CutGpu]  # by the GPU's position
NO_CUT: Cut = MappingProxyType({})


class Choice(Struct, frozen=True):
    """The parts of a pod, and by how much they raise what is unusable, in thousandths of a GPU."""

    taken: tuple[Taken, ...] = ()
    fragment: float = 0.0

    @property
    def gpus(self) -> tuple[int, ...]:
        """The positions of their GPUs."""
        return tuple(sorted({one.gpu for one in self.taken}))


NOTHING_TAKEN = Choice()


class Expected:
    """Which parts a cluster expects, by their shares; what a state of a GPU is worth to them."""

    def __init__(self, shares: Mapping[str, float]) -> None:
        self._shares = shares
        self._known: dict[tuple[object, ...], float] = {}

    @property
    def some(self) -> bool:
        """Whether any are expected."""
        return bool(self._shares)

    def unusable(self, gpu: CutGpu, shapes: Shapes) -> float:
        """Free slices that they cannot use, as thousandths of a GPU."""
        shape = gpu.shape
        key = (shapes.model, len(shapes.of), shape.slices, shape.even and min(gpu.parts), gpu.used)
        found = self._known.get(key)
        if found is None:
            if len(self._known) >= 100_000:
                self._known.clear()
            found = self._known[key] = unusable(self._shares, gpu, shapes)
        return found


def unusable(shares: Mapping[str, float], gpu: CutGpu, shapes: Shapes) -> float:
    """The same for these shares, anew."""
    slices = gpu.shape.slices
    free = slices - gpu.used.bit_count()
    lost = sum(share * (free - _usable(gpu, name, shapes)) for name, share in shares.items())
    return lost * MILLI / slices


def _usable(gpu: CutGpu, name: str, shapes: Shapes) -> int:
    """The free slices that parts of the resource can use, those that are not made among them."""
    own, shape = gpu.parts.get(name), shapes.of.get(name)
    if own is not None and own[0].even:
        return own[0].slices - gpu.used.bit_count()
    if shape is None:
        return 0
    if shape.even or gpu.shape.even or shape.slices != gpu.shape.slices:
        return 0 if gpu.used else gpu.shape.slices  # all parts of such a GPU change together
    used, found = gpu.used, 0
    for start in shape.starts:
        if not used & shape.mask(start):
            used, found = used | shape.mask(start), found + shape.size
    return found


def choose(cut: Cut, parts: Parts, expected: Expected, shapes: Shapes) -> Choice:
    """The free parts that leave least unusable, on the fullest GPU of those that leave the same;
    parts that nobody tells of are not among them."""
    gpus, taken, fragment = dict(cut), list[Taken](), 0.0
    for resource in _each(cut, parts):
        best = min(_priced(gpus, resource, expected, shapes), default=None)
        if best is not None:
            cost, _, one = best
            gpus[one.gpu] = gpus[one.gpu].without(one.resource, one.start)
            taken.append(one)
            fragment += cost
    return Choice(tuple(taken), fragment)


def _each(cut: Cut, parts: Parts) -> Iterator[str]:
    """A name for each part, large ones first: they have fewer places."""

    def size(name: str) -> float:
        known = (gpu.parts[name][0] for gpu in cut.values() if name in gpu.parts)
        return max((shape.size / shape.slices for shape in known), default=0.0)

    left = MAX_PARTS
    for name, count in sorted(parts, key=lambda one: (-size(one[0]), one[0])):
        free = sum(len(gpu.parts[name][1]) for gpu in cut.values() if name in gpu.parts)
        some = min(count, free, left)
        left -= some
        yield from repeat(name, some)


def _priced(
    gpus: Cut, resource: str, expected: Expected, shapes: Shapes
) -> Iterator[tuple[float, int, Taken]]:
    for position, gpu in gpus.items():
        before = None
        for start in gpu.parts[resource][1] if resource in gpu.parts else ():
            before = expected.unusable(gpu, shapes) if before is None else before
            after = expected.unusable(gpu.without(resource, start), shapes)
            cost = round(after - before, 3)
            yield cost, gpu.free_milli, Taken(position, resource, start)


def only(cut: Cut, suits: Callable[[int, str], bool]) -> Cut:
    """The same with the free parts of those resources alone that suit, by position and resource."""
    return {
        at: CutGpu(
            gpu.used,
            {
                name: (shape, free if suits(at, name) else ())
                for name, (shape, free) in gpu.parts.items()
            },
        )
        for at, gpu in cut.items()
    }


def milli_of(parts: Parts, shapes: Shapes) -> int:
    """Thousandths of a GPU that parts are; one of which no shape is known counts nothing."""
    known = [(shapes.of[name], count) for name, count in parts if name in shapes.of]
    return sum(count * MILLI * shape.size // shape.slices for shape, count in known)


def after(cut: Cut, taken: Sequence[Taken], sign: int = 1) -> Cut:
    """What is left when these are taken, or with `sign` -1 given back."""
    gpus = dict(cut)
    for one in taken:
        gpu = gpus[one.gpu]
        change = gpu.without if sign > 0 else gpu.again
        gpus[one.gpu] = change(one.resource, one.start)
    return gpus


def used_of(shape: Shape, starts: Sequence[int]) -> int:
    """The slices of these parts, as bits."""
    used = 0
    for start in starts:
        used |= shape.mask(start)
    return used

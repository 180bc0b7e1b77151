"""What the API server accepts of a device: one bad text would cost the node all its slices; pure.

Kubernetes 1.34 to 1.37, pkg/apis/resource/validation.
"""

import re
from collections.abc import Iterator, Mapping
from functools import lru_cache

from msgspec import Struct, field
from msgspec.structs import replace

from deviceplugin.dra.names import MAX_LABEL

MAX_TEXT = 64
MAX_VALUES = 32  # attributes and capacities together
# Of a slice; with taints or consumed counters, since 1.35.
MAX_DEVICES, MAX_TAINTED_DEVICES = 128, 64
MAX_TAINTS, MAX_TAINTS_BEFORE_135 = 16, 4
MAX_SETS, MAX_COUNTERS = 8, 32  # of a slice; of a set, and before 1.35 of all sets of a slice
MAX_CONSUMED_SETS = 2  # of a device
MAX_CONSUMPTIONS_BEFORE_135 = 1024  # of counters, by all devices of a slice
_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,31}")
_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_SEMVER = re.compile(
    r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(-[0-9A-Za-z.-]+)?(\+[0-9A-Za-z.-]+)?"
)
_LABEL_VALUE = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?")
_DNS_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")


class Version(Struct, frozen=True):
    """A semantic version: three numbers, none with a leading zero."""

    text: str


Value = str | int | bool | Version
Counters = Mapping[str, int]


class Taint(Struct, frozen=True, order=True):
    """Keeps claims away from a device that do not tolerate it."""

    key: str
    value: str = ""
    effect: str = "NoSchedule"


class Policy(Struct, frozen=True, kw_only=True):
    """How much of a capacity a claim takes that names none (`default`), and what it may name:
    from `least` up in multiples of `step`; any amount where both are None."""

    default: int
    least: int | None = None
    step: int | None = None

    def fits(self, value: int) -> bool:
        """Whether the API server takes it for a capacity of `value`."""
        least, step = self.least, self.step
        if least is None:
            return step is None and 0 <= self.default <= value
        inside = 0 <= least <= self.default <= value
        if step is None:
            return inside
        whole = step > 0 and not (self.default % step or least % step)
        return inside and whole and least + step <= value

    def taken(self, asked: int | None) -> int:
        """What a request of `asked` takes: it is rounded up."""
        if asked is None:
            return self.default
        asked = max(asked, self.least or 0)
        return asked if not self.step else -(-asked // self.step) * self.step


class SliceDevice(Struct, frozen=True, kw_only=True):
    """A device as a ResourceSlice has it; `capacity` in units of one.

    `consumes` are counters by the name of their set. With `policies`, each of a capacity, several
    claims can have the device at once.
    """

    name: str
    attributes: Mapping[str, Value]
    capacity: Mapping[str, int]
    taints: tuple[Taint, ...] = ()
    consumes: Mapping[str, Counters] = field(default_factory=dict)
    policies: Mapping[str, Policy] = field(default_factory=dict)


def parse_version(text: str) -> Value:
    """A version of three numbers where the text is one or can be made one (`570.86.03` is
    570.86.3, `13.2` is 13.2.0), else the text."""
    numbers = text.split(".")
    if 1 < len(numbers) <= 3 and all(part.isascii() and part.isdecimal() for part in numbers):
        whole = [str(int(part)) for part in numbers]
        return Version(".".join([*whole, "0"][:3]))
    return Version(text) if len(text) <= MAX_TEXT and _SEMVER.fullmatch(text) else text


@lru_cache(maxsize=4096)  # the same few names at every plan
def is_label(text: str) -> bool:
    """Whether it is a DNS label: the name of a device, a set or a counter."""
    return len(text) <= MAX_LABEL and bool(_DNS_LABEL.fullmatch(text))


def counters_fit(counters: Counters) -> bool:
    """Whether they can be those of a set, or what a device takes of one."""
    names_fit = all(is_label(name) and count >= 0 for name, count in counters.items())
    return 0 < len(counters) <= MAX_COUNTERS and names_fit


def fitted(device: SliceDevice, *, most_taints: int = MAX_TAINTS) -> SliceDevice | None:
    """The device without whatever of it the API server would refuse; None where that is its name,
    or what it takes of its GPU: without it the GPU would be given twice.

    `dropped` says what was left out.
    """
    if not is_label(device.name) or not _consumption_fits(device):
        return None
    capacity = {key: n for key, n in device.capacity.items() if _key_fits(key) and n >= 0}
    attributes = {key: v for key, v in device.attributes.items() if _key_fits(key) and _fits(v)}
    room = MAX_VALUES - min(len(capacity), MAX_VALUES)
    taints = [taint for taint in sorted(device.taints) if _taint_fits(taint)]
    return replace(
        device,
        attributes=dict(sorted(attributes.items())[:room]),
        capacity=dict(sorted(capacity.items())[:MAX_VALUES]),
        taints=tuple(taints[:most_taints]),
    )


def dropped(device: SliceDevice, fits: SliceDevice | None) -> Iterator[str]:
    """What of a device is not published, in words."""
    if fits is None:
        why = "what it takes of counters or capacity is not one that is accepted"
        if not is_label(device.name):
            why = "its name is not a DNS label"
        yield f"device {device.name[:MAX_TEXT]!r}: {why}"
        return
    for kind, before, after in (
        ("attribute", device.attributes, fits.attributes),
        ("capacity", device.capacity, fits.capacity),
    ):
        for key in sorted(before.keys() - after.keys()):
            yield f"device {device.name}: {kind} {key[:MAX_TEXT]} is not one that is accepted"
    for taint in sorted(set(device.taints) - set(fits.taints)):
        yield f"device {device.name}: taint {taint.key[:MAX_TEXT]} is left out"


def _consumption_fits(device: SliceDevice) -> bool:
    sets = device.consumes
    return (
        len(sets) <= MAX_CONSUMED_SETS
        and all(is_label(name) and counters_fit(taken) for name, taken in sets.items())
        and all(
            key in device.capacity and policy.fits(device.capacity[key])
            for key, policy in device.policies.items()
        )
    )


@lru_cache(maxsize=1024)  # as above
def _key_fits(key: str) -> bool:
    domain, slash, name = key.rpartition("/")
    if not _IDENTIFIER.fullmatch(name):
        return False
    return not slash or (len(domain) <= MAX_LABEL and bool(_SUBDOMAIN.fullmatch(domain)))


def _fits(value: Value) -> bool:
    if isinstance(value, Version):
        return _version_fits(value.text)
    if isinstance(value, str):
        return len(value) <= MAX_TEXT
    return isinstance(value, bool) or -(2**63) <= value < 2**63


@lru_cache(maxsize=256)  # as above
def _version_fits(text: str) -> bool:
    return len(text) <= MAX_TEXT and bool(_SEMVER.fullmatch(text))


def _taint_fits(taint: Taint) -> bool:
    domain, _, name = taint.key.rpartition("/")
    return (
        0 < len(name) <= MAX_LABEL
        and bool(_LABEL_VALUE.fullmatch(name))
        and (not domain or bool(_SUBDOMAIN.fullmatch(domain)))
        and len(taint.value) <= MAX_LABEL
        and bool(_LABEL_VALUE.fullmatch(taint.value))
    )

"""The configuration sections `isolation`, `rules` and `sharing`; decoded by msgspec."""

import re
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, ClassVar, Literal

import msgspec

from deviceplugin.errors import ConfigError
from deviceplugin.model import ContainerEdits, Device, Isolation, ResourceName, Share
from deviceplugin.names import name_problem
from deviceplugin.schema import Isolation as IsolationWord
from deviceplugin.schema import Section, Size, parse_bytes
from deviceplugin.vendor import ComputeLimit, Prepare, Sections

MIB = 1 << 20
TIME_SLICING = "time-slicing"
PLUGIN, DRA = "device-plugin", "dra"
Texts = str | tuple[str, ...]
Numbers = int | str | tuple[int | str, ...]
_PERCENT = re.compile(r"([1-9][0-9]?|100)%")


# Less than 40 bytes an id are not to be had, and the kubelet drops a list of 4 MiB.
MAX_REPLICAS = 100_000


def check_size(key: str, text: str | None) -> None:
    """Raise ValueError, as a section's own check does, for what is not a size."""
    if text is not None:
        try:
            parse_bytes(text)
        except ValueError as error:
            raise ValueError(f"{key}: a size above zero such as 5GiB") from error


def check_replicas(replicas: int | None) -> None:
    """Raise ValueError for a number of replicas that no node can offer."""
    if replicas is not None and not 2 <= replicas <= MAX_REPLICAS:
        raise ValueError(f"replicas: a whole number from 2 to {MAX_REPLICAS}")


def check_name(key: str, name: str) -> None:
    """Raise ValueError for what cannot be the name of a resource."""
    if problem := name_problem(name):
        raise ValueError(f"{key}: a resource name such as nvidia.com/gpu.shared: {problem}")


class MemoryRange(Section, frozen=True):
    """Device memory from `min` up to and including `max`."""

    min: Size | None = None
    max: Size | None = None

    def __post_init__(self) -> None:
        """Check both sizes."""
        check_size("min", self.min)
        check_size("max", self.max)


class Match(Section, frozen=True):
    """Which devices a rule is about: each key that is there must fit, one value of a list is
    enough. Texts are globs (`*`, `?`), `index` is `0` or, for a partition, `"0:1"`."""

    vendor: Texts | None = None
    product: Texts | None = None
    uuid: Texts | None = None
    pci_address: Texts | None = None
    index: Numbers | None = None
    memory: MemoryRange | None = None
    profile: Texts | None = None
    driver: Texts | None = None
    resource: Texts | None = None


class MemorySlices(Section, frozen=True):
    """Memory by the unit; `reserve` of each device is not handed out."""

    unit: Size = "1GiB"
    reserve: Size | None = None

    def __post_init__(self) -> None:
        """Refuse a unit that is no whole number of MiB, the unit in which limits are told."""
        check_size("unit", self.unit)
        check_size("reserve", self.reserve)
        if parse_bytes(self.unit) % MIB:
            raise ValueError("unit: a whole number of MiB such as 512MiB")


class Offer(Section, frozen=True):
    """One form in which a device is offered: exactly one of `whole`, `replicas`, `memory`.
    `compute` comes with each slice of memory, in percent of the device's compute."""

    whole: bool = False
    replicas: int | None = None
    memory: MemorySlices | None = None
    compute: str | None = None
    name: str | None = None
    max_per_container: int | Literal["unlimited"] | None = None
    distinct: bool = False
    sharing: str | None = None
    variables: tuple[str, ...] = ()
    policy: str | None = None

    def __post_init__(self) -> None:
        """Refuse what msgspec cannot express, where it can still tell the key's path."""
        forms = self.whole + (self.replicas is not None) + (self.memory is not None)
        if forms != 1:
            raise ValueError("an offer has exactly one of whole, replicas and memory")
        check_replicas(self.replicas)
        _check_compute(self.compute, self.memory)
        if self.name is not None:
            check_name("name", self.name)
        if isinstance(self.max_per_container, int) and self.max_per_container < 1:
            raise ValueError("max_per_container: a whole number from 1, or unlimited")
        if self.whole and (self.method or self.variables):
            raise ValueError("a device that is offered whole has neither sharing nor variables")

    @property
    def compute_percent(self) -> int | None:
        """The compute of each slice, None where none comes with it."""
        return None if self.compute is None else int(self.compute[:-1])

    @property
    def method(self) -> str | None:
        """The vendor's way in which containers share the device, None for time-slicing. Where the
        rule names none, it is that or what a vendor's policy chooses (resources/automatic.py)."""
        return None if self.sharing == TIME_SLICING else self.sharing

    @property
    def limit(self) -> int | None:
        """How many ids a container may have, None for any number.

        Two replicas of one GPU are no second GPU, so one is the default; with `distinct` each
        is another GPU, and any number makes sense.
        """
        if self.max_per_container == "unlimited":
            return None
        if self.max_per_container is None:
            return 1 if self.replicas is not None and not self.distinct else None
        return self.max_per_container


class Rule(Section, frozen=True):
    """What becomes of the devices that fit `match`, or of the first `count` of them.

    `label` is what messages call the rule instead of its number. With `joined`, replicas and memory
    of a device can be held at once: a container that asks for both gets both of one device.
    `apis` says by which of the kubelet's APIs the devices are offered while DRA is on.
    """

    offers: tuple[Literal["whole", "exclude"] | Offer, ...]
    match: Match = Match()
    count: int | None = None
    label: str | None = None
    joined: bool = False
    apis: tuple[Literal["device-plugin", "dra"], ...] | None = None

    def __post_init__(self) -> None:
        """Refuse rules that say nothing or contradict themselves."""
        if not self.offers:
            raise ValueError("offers: at least one form; to hide devices write [exclude]")
        if "exclude" in self.offers and len(self.offers) > 1:
            raise ValueError("offers: exclude alone, or forms without it")
        if self.count is not None and self.count < 1:
            raise ValueError("count: a whole number from 1")
        if (self.apis is not None and len(set(self.apis)) != len(self.apis)) or self.apis == ():
            raise ValueError("apis: device-plugin, dra, or each of them once")
        if self.apis is not None and not self.forms:
            raise ValueError("apis: not with exclude, which no API offers")
        if self.joined:
            _check_joined(self.forms)

    @property
    def forms(self) -> tuple[Offer, ...]:
        """The offers as values; none for `exclude`."""
        return tuple(
            offer if isinstance(offer, Offer) else Offer(whole=True)
            for offer in self.offers
            if offer != "exclude"
        )


def _check_compute(compute: str | None, memory: MemorySlices | None) -> None:
    if compute is None:
        return
    if not _PERCENT.fullmatch(compute):
        raise ValueError("compute: a part of the device's compute from 1% to 100% such as 25%")
    if memory is None:
        raise ValueError("compute: only beside memory, whose slices it comes with")


def _check_joined(forms: Sequence[Offer]) -> None:
    kinds = sorted("memory" if f.memory else "replicas" if f.replicas else "whole" for f in forms)
    if kinds != ["memory", "replicas"]:
        text = "one offer with replicas and one with memory"
        raise ValueError(f"joined: offers must be {text}, found {', '.join(kinds) or 'exclude'}")
    if any(form.method for form in forms):
        raise ValueError(f"joined: both offers must have the sharing {TIME_SLICING}")


class Method(msgspec.Struct, frozen=True, kw_only=True):
    """A vendor's sharing method as it is used here: nothing that it does ends a plan.

    Its parts are those of `deviceplugin.vendor.SharingMethod`.
    """

    name: str
    vendor: str
    title: str
    devices: str
    advice: str
    refusal: Callable[[Device], str | None]
    isolation: Callable[[Share], Isolation]
    prepare: Prepare
    edits: Callable[[ResourceName, msgspec.Struct], ContainerEdits]
    automatic: Callable[[Sections], bool] = lambda _: False


class SharingSection(Section, frozen=True, eq=False):
    """What sharing needs on the node: the settings of each sharing method under its name.

    The methods and their keys are the vendors', so the schema of an installation is a subclass of
    this one (resources/methods.py). `VARIABLES` are the names that the key `variables` of a rule
    may have, `DOMAINS` has the domain of resources that rules name, and `COMPUTE` what makes the
    limit on shares of compute of the configuration's sections, both by vendor.
    """

    METHODS: ClassVar[Mapping[str, Method]] = MappingProxyType({})
    VARIABLES: ClassVar[tuple[str, ...]] = ()
    DOMAINS: ClassVar[Mapping[str, str]] = MappingProxyType({})
    COMPUTE: ClassVar[Mapping[str, Callable[[Sections], ComputeLimit]]] = MappingProxyType({})

    def __eq__(self, other: object) -> bool:
        """Equal settings: each reading of a configuration makes a schema of its own."""
        if not isinstance(other, SharingSection):
            return NotImplemented
        return bool(msgspec.to_builtins(self) == msgspec.to_builtins(other))

    def __hash__(self) -> int:
        """That of the settings."""
        return hash(msgspec.json.encode(self))


def check_rules(rules: Sequence[Rule], sharing: SharingSection) -> None:
    """Raise ConfigError, with the key and the choices, for a sharing method or a variable that no
    installed vendor has."""
    methods = (TIME_SLICING, *sorted(sharing.METHODS))
    for number, rule in enumerate(rules):
        for place, offer in enumerate(rule.offers):
            key = f"rules[{number}].offers[{place}]"
            if not isinstance(offer, Offer):
                continue
            if offer.sharing is not None:
                _check_choice(f"{key}.sharing", offer.sharing, methods)
            for at, variable in enumerate(offer.variables):
                _check_choice(f"{key}.variables[{at}]", variable, sharing.VARIABLES)


def _check_choice(key: str, value: str, choices: Sequence[str]) -> None:
    if value not in choices:
        some = "one of " + ", ".join(choices) if choices else "nothing: no installed vendor has any"
        raise ConfigError(key, value, some)


# A list and a word are no structs, but are decoded, checked and shown by the same code.
SECTIONS: Mapping[str, Any] = {
    "isolation": IsolationWord | None,
    "rules": tuple[Rule, ...] | None,
    "sharing": SharingSection,
}

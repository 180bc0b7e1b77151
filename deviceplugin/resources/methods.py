"""The sharing methods, variables and domains of the vendor modules, checked and guarded."""

import re
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from typing import cast

import msgspec

from deviceplugin.edits import merge_edits
from deviceplugin.errors import DevicePluginError, VendorError
from deviceplugin.host import Host
from deviceplugin.model import ContainerEdits, Device, Isolation, ResourceName, Share
from deviceplugin.names import name_problem
from deviceplugin.resources.plan import Sharing
from deviceplugin.resources.section import Method, SharingSection
from deviceplugin.runtime.guard import FAILED, guarded, plugin_function
from deviceplugin.vendor import (
    ComputeLimit,
    Launch,
    Program,
    Sections,
    SharedResource,
    SharingMethod,
    VendorModule,
)

Launches = Mapping[str, Launch]

_NAME = re.compile(r"[a-z][a-z0-9_]{0,31}")
_PARTS = ("refusal", "isolation", "prepare", "edits")
_WORDS = ("TITLE", "DEVICES", "ADVICE")


def sharing_schema(modules: Iterable[VendorModule], *, strict: bool = True) -> type[SharingSection]:
    """The section `sharing` of an installation with these vendors.

    A method that two vendors have is the first one's. Not `strict`, settings of methods that
    nobody has are let through: those of a vendor that cannot be loaded.
    """
    modules = tuple(modules)
    offered: dict[str, tuple[str, SharingMethod]] = {}
    for module in modules:
        for name, method in _offered(module).items():
            offered.setdefault(name, (module.NAME, method))
    schemas = {name: method.SETTINGS for name, (_, method) in sorted(offered.items())}
    variables = [name for module in modules for name in getattr(module, "SHARE_VARIABLES", ())]
    made = msgspec.defstruct(
        "SharingSection",
        [(name, kind, msgspec.field(default_factory=kind)) for name, kind in schemas.items()],
        bases=(SharingSection,),
        namespace={
            "METHODS": {name: _method(name, *offered[name]) for name in offered},
            "VARIABLES": tuple(dict.fromkeys(variables)),
            "DOMAINS": {m.NAME: d for m in modules if (d := getattr(m, "RESOURCE_DOMAIN", None))},
            "COMPUTE": _compute_limits(modules),
        },
        frozen=True,
        eq=False,
        kw_only=True,
        forbid_unknown_fields=strict,
    )
    return cast("type[SharingSection]", made)


def sharing_problem(module: VendorModule, others: Sequence[VendorModule]) -> str | None:
    """Why the sharing methods of a vendor module cannot be used, None where they can."""
    taken = {name for other in others for name in _offered(other)}
    offered = getattr(module, "SHARING", {})
    if not isinstance(offered, Mapping):
        return "its SHARING is not a mapping"
    problems = (_method_problem(name, method, taken) for name, method in offered.items())
    for problem in filter(None, problems):
        return f"its sharing method {problem}"
    variables = getattr(module, "SHARE_VARIABLES", ())
    if not isinstance(variables, tuple) or not all(isinstance(v, str) for v in variables):
        return "its SHARE_VARIABLES is not a tuple of names"
    domain = getattr(module, "RESOURCE_DOMAIN", "example.com")
    wrong = name_problem(f"{domain}/memory")
    return f"its RESOURCE_DOMAIN {domain!r} is not a domain: {wrong}" if wrong else None


def _method_problem(name: object, method: SharingMethod, taken: Container[str]) -> str | None:
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        return f"{name!r} is not named by a word such as mps"
    if name in taken:
        return f"{name!r} is that of another vendor"
    for part in _PARTS:
        if not callable(getattr(method, part, None)):
            return f"{name!r} has no {part}()"
    for word in _WORDS:
        if not isinstance(getattr(method, word, None), str):
            return f"{name!r} has no text {word}"
    schema = getattr(method, "SETTINGS", None)
    if not (isinstance(schema, type) and issubclass(schema, msgspec.Struct)):
        return f"{name!r} has no SETTINGS that are a msgspec.Struct"
    msgspec.convert({}, schema)  # settings that are not given have their defaults
    return None


def launches_of(sharing: Sharing, host: Host, sections: Sections) -> Launches:
    """What starts the programs of each sharing method that a rule uses.

    A program that is not on this node is looked for again by each call; until it is there, the
    call raises DevicePluginError.
    """
    return {method.name: _launch(method, host, sections) for method in _methods_used(sharing)}


def absent_programs(sharing: Sharing, host: Host, sections: Sections) -> tuple[str, ...]:
    """Why the sharing methods that rules use cannot serve on this node, one line each."""
    found = []
    for method in _methods_used(sharing):
        try:
            method.prepare(host, sections)
        except DevicePluginError as error:
            found.append(f"sharing: {method.name}: {error}; its devices are Unhealthy until then")
    return tuple(found)


def _compute_limits(
    modules: Iterable[VendorModule],
) -> Mapping[str, Callable[[Sections], ComputeLimit]]:
    return {
        module.NAME: _compute_limit(module.NAME, made)
        for module in modules
        if (made := getattr(module, "SHARE_COMPUTE", None))
    }


def _compute_limit(
    vendor: str, made: Callable[[Sections], ComputeLimit]
) -> Callable[[Sections], ComputeLimit]:
    """Called so that a failure, or an answer of another type, ends nothing else."""

    def failed(*_: object) -> str:
        return f"its vendor's limit failed, see {FAILED!r} in the log"

    def limit(sections: Sections) -> ComputeLimit:
        def asked(device: Device, share: Share) -> str:
            return str(made(sections)(device, share))

        return guarded(f"{vendor}.SHARE_COMPUTE", asked, failed)

    return limit


def _methods_used(sharing: Sharing) -> Iterable[Method]:
    known = sharing.section.METHODS
    return [known[name] for name in sorted(sharing.methods_used & known.keys())]


def _launch(method: Method, host: Host, sections: Sections) -> Launch:
    """What is found stays found: a program that runs must not end because its file is replaced."""
    found: list[Launch] = []
    broken: list[VendorError] = []

    def prepared() -> Launch:
        if broken:
            raise broken[0]
        try:
            found.append(method.prepare(host, sections))
        except VendorError as error:
            if error.__cause__ is not None:  # a mistake in the method, logged once
                broken.append(error)
            raise
        return found[0]

    def checked(shared: SharedResource) -> Program:
        program = (found[0] if found else prepared())(shared)
        if not isinstance(program, Program) or not program.arguments:
            raise TypeError(f"it made {program!r}, which is not a Program with arguments")
        return program

    return plugin_function(f"{method.name}.launch", checked)


def _offered(module: VendorModule) -> Mapping[str, SharingMethod]:
    return getattr(module, "SHARING", {})


def _automatic(offered: SharingMethod) -> Callable[[Sections], bool]:
    asked: Callable[[Sections], bool] | None = getattr(offered, "automatic", None)
    return (lambda _: False) if asked is None else asked


def _method(name: str, vendor: str, offered: SharingMethod) -> Method:
    """The method with its parts called so that a failure, or an answer of another type, is logged
    by its name and ends nothing else."""

    def refused(_: Device) -> str:
        return f"and its method failed, see {FAILED!r} in the log"

    def isolation(share: Share) -> Isolation:
        return Isolation(offered.isolation(share))

    def edits(resource: ResourceName, settings: msgspec.Struct) -> ContainerEdits:
        return merge_edits([offered.edits(resource, settings)])

    return Method(
        name=name,
        vendor=vendor,
        title=str(offered.TITLE),
        devices=str(offered.DEVICES),
        advice=str(offered.ADVICE),
        refusal=guarded(f"{name}.refusal", offered.refusal, refused),
        isolation=guarded(f"{name}.isolation", isolation, lambda _: Isolation.NONE),
        prepare=plugin_function(f"{name}.prepare", offered.prepare),
        edits=plugin_function(f"{name}.edits", edits),
        automatic=guarded(f"{name}.automatic", _automatic(offered), lambda _: False),
    )

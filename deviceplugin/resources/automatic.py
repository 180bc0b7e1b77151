"""The sharing method that a vendor's policy chooses for slices of memory whose rule names none."""

from collections.abc import Iterator, Mapping

from msgspec import Struct
from msgspec.structs import replace

from deviceplugin.errors import DevicePluginError
from deviceplugin.host import Host
from deviceplugin.resources.plan import Sharing
from deviceplugin.resources.section import Method
from deviceplugin.vendor import Sections


class Choice(Struct, frozen=True, kw_only=True):
    """A method that may be chosen, and why it is not, "" where it is."""

    method: Method
    reason: str = ""

    @property
    def text(self) -> str:
        """What was chosen and why, as a line."""
        devices = f"slices of memory of {self.method.vendor} devices"
        if self.reason:
            return f"{devices} are shared without {self.method.title}: {self.reason}"
        return f"{devices} are shared by {self.method.title}: its program is on this node"


def choices(sharing: Sharing, host: Host, sections: Sections) -> tuple[Choice, ...]:
    """Of each method that a policy wants; none where no rule has slices for it. Blocking, but
    short: it looks for files."""
    if not any(f.memory and f.sharing is None for rule in sharing.rules for f in rule.forms):
        return ()
    return tuple(_choices(sharing.section.METHODS, host, sections))


def _choices(methods: Mapping[str, Method], host: Host, sections: Sections) -> Iterator[Choice]:
    for method in methods.values():
        if method.automatic(sections):
            try:
                method.prepare(host, sections)
            except DevicePluginError as error:
                yield Choice(method=method, reason=str(error))
            else:
                yield Choice(method=method)


def chosen(sharing: Sharing, found: tuple[Choice, ...]) -> Sharing:
    """By the methods that can be used."""
    methods = {c.method.vendor: c.method.name for c in found if not c.reason}
    return replace(sharing, automatic=methods) if methods else sharing


def with_automatic(sharing: Sharing, host: Host, sections: Sections) -> Sharing:
    """The same for who looks once."""
    return chosen(sharing, choices(sharing, host, sections))

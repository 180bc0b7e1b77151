"""Reads on behalf of one device: a failure is noted and costs only what was read."""

from dataclasses import dataclass, field, replace

from deviceplugin.errors import DiscoveryError
from deviceplugin.host import Host
from deviceplugin.host.numbers import numbered
from deviceplugin.vendors.intel.drm_query import MemoryQuery


@dataclass(frozen=True, slots=True, kw_only=True)
class Reader:
    """A host, the DRM query and a notebook; `problems` name the file that could not be read."""

    host: Host
    query: MemoryQuery
    problems: list[str] = field(default_factory=list)

    def quiet(self) -> "Reader":
        """The same without notes, for debugfs, which only root sees and most nodes hide."""
        return replace(self, problems=[])

    def read_text(self, host_path: str) -> str | None:
        """The text of a file, None where it is absent or could not be read."""
        try:
            return self.host.read_text(host_path)
        except DiscoveryError as error:
            self.problems.append(str(error))
            return None

    def read_positive(self, host_path: str) -> int | None:
        """The number in a file; None where it is absent, unreadable, zero or negative."""
        try:
            value = self.host.read_int(host_path)
        except DiscoveryError as error:
            self.problems.append(str(error))
            return None
        return value if value is not None and value > 0 else None

    def read_sum(self, host_paths: list[str]) -> int | None:
        """The sum of several files' numbers: None unless every one has a positive number.

        Half of a sum, for instance one of two tiles, would be a wrong size and not a poor one.
        """
        values = [self.read_positive(path) for path in host_paths]
        known = [value for value in values if value is not None]
        return sum(known) if known and len(known) == len(values) else None

    def read_numbered(self, host_path: str, prefix: str) -> tuple[str, ...]:
        """The entries `<prefix><number>` of a directory, in the order of their numbers."""
        try:
            names = self.host.read_names(host_path)
        except DiscoveryError as error:
            self.problems.append(str(error))
            return ()
        return tuple(name for _, name in numbered(names, prefix))

    def read_query(self, driver: str | None, node: str | None) -> int | None:
        """What the driver itself says about its local memory, None where it cannot be asked."""
        return self.query(driver, node) if driver and node else None

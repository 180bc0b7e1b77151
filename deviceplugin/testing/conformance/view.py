"""What one can read of a plugin that is judged: what it lists, and where it serves."""

from collections.abc import Mapping
from pathlib import Path
from typing import TypeAlias

from deviceplugin.testing.conformance.record import Record
from deviceplugin.testing.happenings import Opened
from deviceplugin.testing.kubelet import KubeletStub

Topology: TypeAlias = Mapping[str, Mapping[str, tuple[int, ...] | None]]


class View:
    """The readable side of a session; who derives from it sets the parts."""

    stub: KubeletStub
    record: Record
    names: tuple[str, ...]

    def healthy(self, resource: str) -> list[str]:
        """Ids that are listed as healthy, sorted."""
        return sorted(self.stub.manager.healthy.get(resource, ()))

    def offered(self) -> list[tuple[str, list[str]]]:
        """Each resource that has healthy devices, with their ids."""
        return [(name, ids) for name in self.names if (ids := self.healthy(name))]

    def endpoint(self, resource: str) -> Path:
        """The socket of the resource's last registration."""
        endpoints = [r.endpoint for r in self.stub.registrations if r.resource == resource]
        return self.stub.socket_dir / endpoints[-1]

    def is_listed(self, resource: str) -> bool:
        """Whether the resource has one stream or more, and a list in this kubelet's life."""
        return self.stub.live_streams(resource) > 0 and resource in self.stub.log.first_list_at_s

    def opened_since(self, at_s: float, resource: str) -> Opened | None:
        """The first registration of the resource that succeeded since then."""
        found = (o for o in self.record.opened if o.resource == resource and o.at_s >= at_s)
        return next(found, None)

    def topology(self) -> Topology:
        """Every resource's devices as listed now, by id, without their health."""
        return {
            name: {known.id: known.numa_nodes for known in self.stub.devices(name).values()}
            for name in self.names
        }

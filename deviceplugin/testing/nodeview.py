"""What one can read from the kubelet stub: node resources, registrations, pods."""

from collections.abc import Mapping
from types import MappingProxyType

from deviceplugin.testing.admission import Admissions
from deviceplugin.testing.answers import Merged, merge_answers
from deviceplugin.testing.devicemanager import DeviceManager, SeenDevice
from deviceplugin.testing.pods import Pod
from deviceplugin.testing.registration import Registration, RegistrationLog, Registrations


class NodeView:
    """The readable side of a kubelet; who derives from it sets the parts."""

    generation: int
    manager: DeviceManager
    admissions: Admissions
    clients: Registrations
    log: RegistrationLog

    def capacity(self) -> dict[str, int]:
        """Node capacity: healthy and unhealthy devices; 0 once the grace period is over."""
        return self.manager.capacity()

    def allocatable(self) -> dict[str, int]:
        """Node allocatable: healthy devices."""
        return self.manager.allocatable()

    def devices(self, resource: str) -> Mapping[str, SeenDevice]:
        """The resource's devices as last listed."""
        return MappingProxyType(self.manager.devices.get(resource, {}))

    @property
    def registrations(self) -> list[Registration]:
        """Every successful Register, of all generations."""
        return self.log.accepted

    def live_streams(self, resource: str) -> int:
        """Open ListAndWatch streams of the resource."""
        return self.clients.live_streams(resource)

    def messages(self, resource: str) -> int:
        """Lists received for the resource since the stub was made."""
        return self.manager.messages[resource]

    def first_list_s(self, resource: str) -> float | None:
        """Seconds from the arrival of the last Register to its first list, None before it."""
        times = [entry.at_s for entry in self.log.accepted if entry.resource == resource]
        first = self.log.first_list_at_s.get(resource)
        return None if first is None or not times else first - times[-1]

    @property
    def crashes(self) -> list[str]:
        """What would have crashed a real kubelet."""
        return self.manager.crashes

    @property
    def violations(self) -> list[str]:
        """What the kubelet accepts, but a good plugin does not send."""
        return [str(fault) for fault in self.manager.faults]

    @property
    def pods(self) -> Mapping[str, Pod]:
        """Active pods by "namespace/name"."""
        return MappingProxyType(self.admissions.pods)

    @property
    def killed(self) -> Mapping[str, str]:
        """Pods that readmit_all killed, with the text of their status."""
        return MappingProxyType(self.admissions.killed)

    def merged(self, pod: str, container: str, namespace: str = "default") -> Merged:
        """The answers of all resources of a container, merged in the order of their names."""
        held = self.manager.holders_of(f"{namespace}/{pod}", container)
        return merge_answers(holding.answer for _, holding in sorted(held, key=lambda p: p[0]))

    def summary(self) -> str:
        """The state in one line, for messages."""
        streams = {name: self.live_streams(name) for name in self.capacity()}
        return (
            f"generation {self.generation}, registrations {len(self.registrations)},"
            f" capacity {self.capacity()}, allocatable {self.allocatable()}, streams {streams},"
            f" pods {sorted(self.pods)}, stream ends {self.log.stream_ends[-3:]},"
            f" crashes {self.crashes}"
        )

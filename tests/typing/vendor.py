"""A vendor as a third party would write it, with every part of the contract, for mypy to check.

Only `deviceplugin.api` is imported; what mypy says of this module it says to third parties.
"""

from collections.abc import Mapping, Sequence
from threading import Event

from deviceplugin.api import (
    AdvertisedID,
    Agent,
    AgentReport,
    CdiSpec,
    Complaint,
    ContainerEdits,
    Context,
    Device,
    DeviceID,
    DeviceNode,
    Discovery,
    Fault,
    FaultClass,
    Finding,
    Grant,
    HealthReport,
    Host,
    Link,
    LinkKind,
    Preference,
    Reading,
    Reports,
    Resource,
    ResourceName,
    Scheduling,
    Section,
    Sections,
    TracingHost,
    UnavailableError,
    faults,
    frozen,
    merge_edits,
    parse_bytes,
    pci,
    traced,
)

NAME = "typed"
CONTRACT = 1


class TypedSection(Section, frozen=True):
    """The vendor's section."""

    resource: str = "npu"
    reserve: str = "1GiB"
    scheduling: Scheduling = Scheduling()


SECTIONS = {NAME: TypedSection}


class TypedVendor:
    """Every method of the contract."""

    name = NAME

    def __init__(self, host: Host, section: TypedSection) -> None:
        self._host, self._section = host, section
        self._trace: TracingHost | None = None

    def discover(self) -> Discovery:
        self._trace = traced(self._host)
        functions = pci.read_gpus(self._trace, 0x1234)
        if not functions:
            raise UnavailableError("no accelerator on the PCI bus")
        return Discovery(devices=tuple(self._device(f.address, f.numa_node) for f in functions))

    def _device(self, address: str, numa_node: int | None) -> Device:
        return Device(
            id=DeviceID(address),
            vendor=NAME,
            resource=ResourceName(f"typed.example/{self._section.resource}"),
            pci_address=address,
            numa_node=numa_node,
            memory_bytes=(16 << 30) - parse_bytes(self._section.reserve),
            policy=self._section.scheduling.policy,
            links=(
                Link(peer=DeviceID("other"), kind=LinkKind.PCIE, width=16),
                Link(peer=DeviceID("other"), kind="HCCS", cost=40),
            ),
            noun="npu",
        )

    def unchanged(self) -> bool:
        return self._trace is not None and self._trace.holds()

    def container_edits(self, devices: Sequence[Device]) -> ContainerEdits:
        node = DeviceNode(path="/dev/typed", host_path="/dev/typed")
        ids = ",".join(device.id for device in devices)
        return merge_edits([ContainerEdits(env=frozen({"TYPED": ids}), device_nodes=(node,))])

    def cdi_specs(self, devices: Sequence[Device]) -> Sequence[CdiSpec]:
        return [
            CdiSpec(kind="typed.example/npu", devices={d.id: ContainerEdits() for d in devices})
        ]

    def probe_health(self, device: Device) -> Finding:
        fault = faults.NODE_MISSING.fault(device.id, "typed.probe", "/dev/typed")
        return Finding(faults=(fault,), mark=1)

    def watch_health(self, devices: Sequence[Device], report: HealthReport, stop: Event) -> None:
        report.faults("typed.watch", [_hot(device) for device in devices])
        stop.wait()
        report.faults("typed.watch", [])
        report.rediscover()

    def agents(self) -> Sequence[Agent]:
        return [Agent(source="typed.agent", socket="/run/t", method="/a.B/C", protocol=Protocol())]

    def share_edits(self, grants: Sequence[Grant]) -> ContainerEdits:
        shares = {f"TYPED_{grant.device.index}": str(grant.percent) for grant in grants}
        return ContainerEdits(env=frozen(shares))

    def readings(self, devices: Sequence[Device]) -> Mapping[DeviceID, Reading]:
        return {device.id: Reading(temperature_c=50.0) for device in devices}

    def close(self) -> None:
        self._trace = None


class Protocol:
    """How the messages of an agent are read."""

    def parse(self, message: bytes, reports: Reports) -> Reports:
        complaint = Complaint(code="ill", reason="it is", kind=FaultClass.WARN)
        name = message.decode()
        return {**reports, name: AgentReport(name=name, identity=name, complaints=(complaint,))}

    def resolve(self, identity: str, devices: Sequence[Device]) -> Sequence[Device]:
        return [device for device in devices if device.id == identity]


def _hot(device: Device) -> Fault:
    return Fault(
        device=device.id,
        source="typed.watch",
        code="hot",
        reason="it is hot",
        action="cool it",
        kind=FaultClass.WARN,
    )


def create(host: Host, sections: Sections) -> TypedVendor:
    """Make the vendor."""
    section = sections[NAME]
    if not isinstance(section, TypedSection):
        raise TypeError(f"section {NAME} is a {type(section).__name__}")
    return TypedVendor(host, section)


def policy(
    resource: Resource, preference: Preference, context: Context
) -> tuple[AdvertisedID, ...]:
    """A placement policy: the coolest device first."""
    layout = context.layout(resource)
    heat: Mapping[DeviceID, float] = {
        gpu: reading.temperature_c or 0.0
        for gpu in layout.gpus
        if (reading := context.readings.get(gpu)) is not None
    }
    ranked = sorted(layout.gpus, key=lambda gpu: heat.get(gpu, 0.0))
    return tuple(i for gpu in ranked for i in layout.ids[layout.gpus.index(gpu)])

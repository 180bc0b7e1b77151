"""Everything that a vendor object must keep to on the node that it looks at."""

from collections.abc import Iterator, Sequence
from itertools import combinations

from deviceplugin.discovery.capabilities import method_problem
from deviceplugin.host import Host
from deviceplugin.model import Device, Discovery
from deviceplugin.testing.contract.answers import cdi_problems, edit_problems
from deviceplugin.testing.contract.devices import discovery_problems
from deviceplugin.testing.contract.health import agents_problems, probe_problems, watch_problems
from deviceplugin.testing.contract.shares import reading_problems, share_problems
from deviceplugin.vendor import (
    AgentSource,
    CdiSource,
    Glance,
    HealthMonitor,
    HealthProbe,
    Readings,
    ShareLimits,
    Vendor,
)

MAX_PAIRS = 64


def contract_problems(vendor: Vendor, host: Host) -> list[str]:
    """Each way in which `vendor`, looking at `host`, breaks the contract; none is the goal.

    Asks it for everything that the daemon would, its health monitor included, but for `close`.
    Raises what `discover` raises: the node must have the vendor's hardware.
    """
    if problem := method_problem(vendor):
        return [problem]
    first = vendor.discover()
    if not isinstance(first, Discovery):
        return [f"discover() gives {type(first).__name__}, not a Discovery"]
    unchanged = list(_unchanged_problems(vendor, first))
    problems = [] if first == vendor.discover() else ["discover() differs from call to call"]
    problems += [*unchanged, *discovery_problems(vendor.name, first, host)]
    for devices in advertised(first):
        problems += edit_problems(vendor, devices, host)
    if isinstance(vendor, CdiSource):
        problems += cdi_problems(vendor, first.devices)
    if isinstance(vendor, ShareLimits):
        problems += share_problems(vendor, shared(first), ())
    if isinstance(vendor, Readings):
        problems += reading_problems(vendor, first.devices)
    if isinstance(vendor, AgentSource):
        problems += agents_problems(vendor, vendor.name)
    if isinstance(vendor, HealthProbe):
        problems += probe_problems(vendor, vendor.name, first.devices)
    if isinstance(vendor, HealthMonitor):
        problems += watch_problems(vendor, vendor.name, first.devices)
    return problems


def advertised(discovery: Discovery) -> Iterator[list[Device]]:
    """What containers may ask for: each device that is Healthy by this discovery, and pairs of
    one resource."""
    taken = {fault.device for fault in discovery.faults if fault.kind.withdraws}
    given = (d for d in discovery.devices if taken.isdisjoint((d.id, d.parent)))
    offered = [device for device in given if device.resource]
    yield from ([device] for device in offered)
    yield from map(list, _pairs(offered))


def shared(discovery: Discovery) -> list[Device]:
    """Those that containers may ask for a share of."""
    return [devices[0] for devices in advertised(discovery) if len(devices) == 1]


def _unchanged_problems(vendor: Vendor, first: Discovery) -> Iterator[str]:
    if not isinstance(vendor, Glance):
        return
    said: object = vendor.unchanged()
    if not isinstance(said, bool):
        yield f"unchanged() gives {said!r}, not a bool"
    elif not said and not first.faults:
        yield "unchanged() is false right after discover() though nothing has changed"


def _pairs(devices: Sequence[Device]) -> Iterator[tuple[Device, Device]]:
    same = (p for p in combinations(devices, 2) if p[0].resource == p[1].resource)
    return (pair for pair, _ in zip(same, range(MAX_PAIRS), strict=False))

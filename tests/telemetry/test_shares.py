"""Which part of a device a container was given, and how it is shown."""

import pytest
from msgspec.structs import replace

from deviceplugin.model import AdvertisedDevice, AdvertisedID, DeviceID, Health, Resource
from deviceplugin.model import ResourceName as Name
from deviceplugin.telemetry.around import Held
from deviceplugin.telemetry.metrics import Shown
from deviceplugin.telemetry.model import Owner
from deviceplugin.telemetry.state import shares_of
from tests.telemetry.test_exposition import text_of, view_of, whole

GPU, OTHER = DeviceID("GPU-0"), DeviceID("GPU-1")
WHOLES, MEMORY, CLAIM = Name("nvidia.com/gpu"), Name("nvidia.com/gpu-memory"), Name("claim ml/a")


def listed(name: Name, count: int) -> dict[Name, Resource]:
    """That many ids of each of two GPUs."""
    devices = tuple(
        AdvertisedDevice(id=AdvertisedID(f"{gpu}::{n}"), device=gpu, health=Health.HEALTHY)
        for gpu in (GPU, OTHER)
        for n in range(count)
    )
    return {name: Resource(name=name, vendor="nvidia", devices=devices)}


def held(pod: str, resource: Name, count: int = 1) -> list[Held]:
    return [(("ml", pod, "main"), resource, GPU)] * count


def owner(pod: str) -> Owner:
    return Owner(namespace="ml", pod=pod, container="main")


@pytest.mark.parametrize(
    ("found", "resources", "shares"),
    [
        (held("a", WHOLES), listed(WHOLES, 1), {"a": 1.0}),
        (held("a", WHOLES) + held("b", WHOLES), listed(WHOLES, 4), {"a": 0.25, "b": 0.25}),
        (held("a", MEMORY, 16), listed(MEMORY, 80), {"a": 0.2}),
        (
            held("a", WHOLES) + held("a", MEMORY, 40),
            listed(WHOLES, 4) | listed(MEMORY, 80),
            {"a": 0.5},
        ),
        (held("a", CLAIM), {}, {"a": 1.0}),
        (held("a", CLAIM) + held("b", CLAIM), {}, {}),
        (held("a", MEMORY, 90), listed(MEMORY, 80), {"a": 1.0}),
    ],
    ids=["whole", "replicas", "memory", "joined", "claim", "claims", "ids that are gone"],
)
def test_a_share_is_its_ids_over_all_of_the_device(
    found: list[Held], resources: dict[Name, Resource], shares: dict[str, float]
) -> None:
    expected = {GPU: tuple((owner(pod), share) for pod, share in shares.items())} if shares else {}
    assert shares_of(found, resources) == expected


def test_nobody_has_no_share() -> None:
    assert shares_of([], listed(WHOLES, 1)) == {}


@pytest.mark.parametrize(("pods", "lines"), [(True, 2), (False, 0)])
def test_shares_are_shown_where_pods_are(pods: bool, lines: int) -> None:
    one = replace(whole(), shares=((owner("a"), 0.25), (owner("b"), 0.5)))
    text = text_of(view_of(one), Shown(pods=pods))
    shown = [x for x in text.splitlines() if x.startswith("deviceplugin_gpu_pod_allocated_ratio{")]
    assert len(shown) == lines
    assert not lines or shown[1].endswith('namespace="ml",pod="b",container="main"} 0.5')

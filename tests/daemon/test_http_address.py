"""Where the daemon says that its endpoint is, it is."""

from tests.rig import Rig


async def test_an_ipv6_address_is_told_as_it_is_configured_and_as_programs_take_it(
    rig: Rig,
) -> None:
    daemon = rig.start("--metrics-address", "[::1]:0")
    address = (await daemon.wait_event("metrics_served"))["address"]
    assert address.startswith("[::1]:")
    assert (await daemon.http("/healthz"))[0] == 200
    other = rig.start("--metrics-address", address)
    failure = await other.wait_event("task_failed", task="http")
    assert address in failure["error"]

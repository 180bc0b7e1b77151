"""What the endpoint tells everybody, and what it tells known readers."""

from pathlib import Path

import pytest

from tests.fakes.nvml import NvmlDouble
from tests.kubernetes.stub import ACCOUNT
from tests.metrics.test_door import TOKEN, get
from tests.resources.conftest import polls
from tests.rig import GPU, Rig

TENANT = "tenant-acme"
RULES = "rules: [{offers: [whole, {replicas: 2}]}]\n"
pytestmark = pytest.mark.slow


async def scraped(rig: Rig, text: str, token: str = "") -> str:
    """/metrics of a node where a tenant's pod holds a GPU."""
    await rig.stub.start()
    daemon = rig.start("--config", str(rig.config(RULES + text)))
    await rig.stub.wait_registered(GPU)
    await rig.stub.wait_for(lambda: rig.stub.allocatable().get(GPU, 0) > 0)
    await rig.stub.admit(TENANT, {"main": {GPU: 1}})
    await polls(rig, 2)
    if not token:
        return (await daemon.http("/metrics"))[1]
    address = (await daemon.wait_event("metrics_served"))["address"]
    status, body = get(int(address.rpartition(":")[2]), "/metrics", token)
    assert status == 200
    return body


async def test_metrics_name_no_tenant_by_default(rig: Rig, nvml: NvmlDouble) -> None:
    body = await scraped(rig, "")
    assert f'deviceplugin_allocations_total{{resource="{GPU}"}} 1.0' in body
    assert TENANT not in body


async def test_a_known_reader_is_told_which_pod_holds_what(
    rig: Rig, nvml: NvmlDouble, tmp_path: Path
) -> None:
    tokens = tmp_path / "tokens"
    tokens.write_text(TOKEN)
    files = f"certificate_file: {ACCOUNT}/ca.crt, key_file: {ACCOUNT}/key.pem"
    body = await scraped(rig, f"metrics: {{{files}, token_file: {tokens}}}\n", TOKEN)
    assert 'deviceplugin_container_devices{container="main",device="GPU-' in body
    assert f'pod="{TENANT}"' in body

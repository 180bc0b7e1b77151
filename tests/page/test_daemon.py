"""The page of a daemon that measures: what is measured, kept and judged reaches it."""

import json

import pytest

from tests.fakes.nvml import NvmlDouble, gpu_uuid
from tests.rig import GPU, Rig

pytestmark = pytest.mark.slow

WATCHED = """
telemetry: {enabled: true, interval_s: 1, history: true}
monitoring:
  enabled: true
  alerts: [{name: warm, condition: "temperature > 1°C", severity: info}]
"""


async def test_a_firing_alert_and_readings_are_on_the_page(rig: Rig, nvml: NvmlDouble) -> None:
    await rig.stub.start()
    daemon = rig.start("--config", str(rig.config(WATCHED)))
    await rig.stub.wait_registered(GPU)
    await daemon.wait_event("alert_firing", alert="warm")
    status, text = await daemon.http("/status")
    assert status == 200
    document = json.loads(text)
    fired = [alert for alert in document["alerts"] if alert["state"] == "firing"]
    assert {alert["name"] for alert in fired} == {"warm"}
    assert {alert["device"] for alert in fired} <= {gpu_uuid(index) for index in range(8)}
    assert any("temperature" in text for text in map(json.dumps, document["devices"]))
    page = (await daemon.http("/"))[1]
    assert "warm" in page

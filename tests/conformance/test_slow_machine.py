"""What a busy machine makes late is not told as a defect of the plugin."""

import asyncio
from pathlib import Path

import pytest

from deviceplugin.pb import deviceplugin_v1beta1_pb2 as pluginapi
from deviceplugin.testing.conformance.ending import seen_by_the_kubelet
from deviceplugin.testing.conformance.judge_registrations import judge_registrations
from deviceplugin.testing.conformance.record import Record
from deviceplugin.testing.conformance.session import Session
from deviceplugin.testing.conformance.settings import Settings
from deviceplugin.testing.conformance.verdict import Outcome
from deviceplugin.testing.happenings import Asked
from tests.testing.rawplugin import GPU, RawPlugin, device

REQUEST = pluginapi.RegisterRequest(version="v1beta1", endpoint="x/y.sock", resource_name=GPU)


@pytest.mark.parametrize(
    ("left_s", "slack", "outcome"),
    [
        (11.6, 1.0, Outcome.PASS),
        (11.4, 1.0, Outcome.FAIL),
        (9.5, 5.0, Outcome.PASS),
        (5.9, 100.0, Outcome.FAIL),
    ],
)
def test_a_request_may_be_on_its_way_for_a_part_of_its_deadline(
    tmp_path: Path, left_s: float, slack: float, outcome: Outcome
) -> None:
    record = Record(tmp_path)
    record(Asked(at_s=0.0, request=REQUEST, remaining_s=left_s, generation=1))
    findings = judge_registrations(record, [], Settings(kubelet_dir=tmp_path, slack=slack))
    assert [finding.outcome for finding in findings if finding.line == 3] == [outcome]


async def test_the_kubelet_may_hear_of_an_end_later_than_the_suite(short_dir: Path) -> None:
    session = Session(Settings(kubelet_dir=short_dir))
    session.names = (GPU,)
    async with session.stub as stub:
        plugin = await RawPlugin(stub.socket_dir / "x" / "gpu.sock", [device("a")]).serve()
        await plugin.register(stub.kubelet_socket)
        await stub.wait_registered(GPU)
        heard = asyncio.create_task(seen_by_the_kubelet(session, 0))
        await asyncio.sleep(0)
        assert not heard.done()
        await plugin.stop()
        await heard
        assert stub.live_streams(GPU) == 0

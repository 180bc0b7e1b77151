"""What PodResources tells, over the stub's real socket."""

from pathlib import Path

import pytest

from deviceplugin.kubelet.podresources import PodResources
from deviceplugin.resources.ledger import Holder
from deviceplugin.resources.usage import claim_name
from deviceplugin.testing.kubelet import KubeletStub


@pytest.mark.slow
async def test_the_claims_of_each_container_are_told(short_dir: Path) -> None:
    async with KubeletStub(short_dir / "k") as stub:
        await stub.admit("trainer", {"main": {}, "helper": {}})
        await stub.admit("other", {"main": {}})
        stub.pod_resources_knobs.claims = {"default/trainer": [("default", "a"), ("default", "b")]}
        api = PodResources(stub.pod_resources_socket)
        reply = await api.read_reply()
        await api.forget()
    holders = [
        Holder(namespace="default", pod="trainer", container=name) for name in ("main", "helper")
    ]
    claims = [claim_name("default", "a"), claim_name("default", "b")]
    assert sorted(reply.claims) == sorted((c, h) for c in claims for h in holders)
    assert reply.holdings == ()

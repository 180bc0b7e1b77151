"""Slices that are shared by the method that a policy chose, where its program is on the node."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from deviceplugin.config.config import Config
from deviceplugin.daemon import sharing as module
from deviceplugin.daemon.sharing import SharingPart
from deviceplugin.enforcement.section import EnforcementSection, NvidiaLimits
from deviceplugin.errors import AllocationError
from deviceplugin.host import Host
from deviceplugin.inventory.store import InventoryStore
from deviceplugin.model import Share
from deviceplugin.resources.automatic import with_automatic
from deviceplugin.resources.plan import Sharing
from deviceplugin.resources.services import services_of
from deviceplugin.vendor import Grant
from deviceplugin.vendors.nvidia.limits import slice_edits
from deviceplugin.vendors.nvidia.mps import limits
from tests.resources.builders import GIB, gpu, instance, inventory, sharing
from tests.rig import WAIT_S

SLICES = {"offers": [{"memory": {"unit": "10GiB"}}]}
AUTO = EnforcementSection(nvidia=NvidiaLimits(mps="auto"))
OFF = EnforcementSection()
CONTROL = "usr/bin/nvidia-cuda-mps-control"


def install(root: Path) -> None:
    """The driver's control program."""
    program = root / CONTROL
    program.parent.mkdir(parents=True, exist_ok=True)
    program.write_text("#!/bin/true\n")
    program.chmod(0o755)


def chosen(root: Path, rule: Any, section: EnforcementSection = AUTO) -> Sharing:
    made = sharing(rule)
    return with_automatic(made, Host(root), {"enforcement": section, "sharing": made.section})


def methods(made: Sharing, *devices: Any) -> set[str | None]:
    plan = made.plan(inventory(*devices))
    return {e.share.method for r in plan.resources.values() for e in r.devices if e.share}


@pytest.mark.parametrize(
    ("rule", "section", "method"),
    [
        (SLICES, AUTO, "mps"),
        (SLICES, OFF, None),
        ({"offers": [{**SLICES["offers"][0], "sharing": "time-slicing"}]}, AUTO, None),
        ({"offers": [{"replicas": 4}]}, AUTO, None),
        ({"joined": True, "offers": [{"replicas": 4}, {"memory": {}}]}, AUTO, None),
    ],
    ids=["slices", "no policy", "a rule that names its method", "replicas", "joined"],
)
def test_the_policy_is_for_slices_whose_rule_says_nothing(
    tmp_path: Path, rule: Any, section: EnforcementSection, method: str | None
) -> None:
    install(tmp_path)
    assert methods(chosen(tmp_path, rule, section), gpu(0, 40)) == {method}


def test_without_the_program_slices_are_shared_as_ever() -> None:
    assert methods(chosen(Path("/nonexistent"), SLICES), gpu(0, 40)) == {None}


def test_other_vendors_and_mig_devices_are_left_alone(tmp_path: Path) -> None:
    install(tmp_path)
    made = chosen(tmp_path, SLICES)
    assert methods(made, gpu(0, 40, vendor="amd", resource="amd.com/gpu")) == {None}
    whole = gpu(0, 40, resource=None)
    made = chosen(tmp_path, {**SLICES, "match": {"profile": "*"}})
    assert methods(made, whole, instance(whole, 1)) == {None}


@pytest.mark.parametrize(
    ("more", "commands"),
    [
        ({}, []),
        ({"max_per_container": 2}, ["set_default_device_pinned_mem_limit 0 20480M"]),
        (
            {"max_per_container": 1, "compute": "25%"},
            [
                "set_default_device_pinned_mem_limit 0 10240M",
                "set_default_active_thread_percentage 25",
            ],
        ),
    ],
    ids=["any number", "two of them", "one with compute"],
)
def test_the_server_holds_each_client_to_the_most_that_a_container_may_have(
    tmp_path: Path, more: Any, commands: list[str]
) -> None:
    install(tmp_path)
    node = inventory(gpu(0, 40))
    plan = chosen(tmp_path, {"offers": [{**SLICES["offers"][0], **more}]}).plan(node)
    ((method, shared),) = services_of(plan.resources, node.devices).values()
    assert (method, list(limits(shared))) == ("mps", commands)


def test_a_container_is_told_the_memory_of_its_slices_as_mps_reads_it() -> None:
    share = Share(count=4, unit_bytes=10 * GIB, method="mps")
    grant = Grant(device=gpu(0, 40), share=share, count=2, memory_bytes=20 * GIB, percent=50)
    found = slice_edits(None, [grant])
    assert dict(found.env) == {"CUDA_MPS_PINNED_DEVICE_MEM_LIMIT": "0=20480M"}
    with pytest.raises(AllocationError, match="memory is unknown"):
        slice_edits(None, [Grant(device=gpu(0), share=share, count=1)])


async def test_a_program_that_comes_later_is_found_and_each_choice_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "AGAIN_S", 0.01)
    made = sharing(SLICES)
    sections: Any = {"enforcement": AUTO, "sharing": made.section, "rules": made.rules}
    config = Config(
        node_name="node-1",
        host_root=tmp_path,
        kubelet_dir=tmp_path,
        sections=sections,
    )
    store = InventoryStore(lambda: 1.0)
    part = SharingPart(config, store)
    store.set_devices("nvidia", [gpu(0, 40)])
    choosing = asyncio.create_task(part._choose())
    try:
        (line,) = part.chosen
        assert line.startswith(
            "slices of memory of nvidia devices are shared without MPS: there is"
        )
        assert methods(part.sharing, gpu(0, 40)) == {None}
        install(tmp_path)
        async with asyncio.timeout(WAIT_S):
            async for _ in part.retention.listed.changes():
                if methods(part.sharing, gpu(0, 40)) == {"mps"}:
                    break
        assert part.chosen == (
            "slices of memory of nvidia devices are shared by MPS: its program is on this node",
        )
        # Not one id is Healthy before its program serves.
        plan = part.planner.current
        assert {e.health for r in plan.resources.values() for e in r.devices} == {"Unhealthy"}
    finally:
        choosing.cancel()

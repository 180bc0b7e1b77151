"""CDI files and the daemon: there before a device is announced, true afterwards."""

import json

from tests.daemon.test_nvidia_node import ALL, serving
from tests.fakes.nvml import NvmlDouble, write_host_tree
from tests.rig import GPU, MIG_3G, Rig

CDI = "nvidia: {device_list_strategy: [cdi-cri]}"
FILE = "k8s.device-plugin.nvidia.com-gpu.json"


def named(rig: Rig) -> set[str]:
    return {d["name"] for d in json.loads((rig.cdi_dir / FILE).read_text())["devices"]}


async def test_every_listed_id_is_in_the_file_when_it_is_listed(rig: Rig, nvml: NvmlDouble) -> None:
    await serving(rig, "--config", str(rig.config(CDI)))
    assert named(rig) == {i for name in ALL for i in rig.stub.devices(name)}


async def test_a_pod_gets_names_that_the_file_has(rig: Rig, nvml: NvmlDouble) -> None:
    await serving(rig, "--config", str(rig.config(CDI)))
    await rig.stub.admit("pod", {"main": {GPU: 1, MIG_3G: 1}})
    given = rig.stub.merged("pod", "main")
    assert {name.partition("=")[2] for name in given.cdi_devices} <= named(rig)
    assert len(given.cdi_devices) == 2
    assert given.envs == {}


async def test_a_new_layout_rewrites_the_file(rig: Rig, nvml: NvmlDouble) -> None:
    await serving(rig, "--config", str(rig.config(CDI)))
    before = named(rig)
    nvml.set_mig(6, ["7g.40gb"])
    write_host_tree(rig.host_root, nvml.scenario)
    await rig.stub.wait_registered("nvidia.com/mig-7g.40gb")
    await rig.stub.wait_for(lambda: rig.stub.devices("nvidia.com/mig-7g.40gb") != {})
    assert set(rig.stub.devices("nvidia.com/mig-7g.40gb")) <= named(rig)
    assert len(before - named(rig)) == 4


async def test_without_a_cdi_strategy_a_left_over_file_goes(rig: Rig, nvml: NvmlDouble) -> None:
    rig.cdi_dir.mkdir()
    (rig.cdi_dir / FILE).write_text("{}")
    (rig.cdi_dir / "nvidia.yaml").write_text("another program's")
    await serving(rig)
    assert [path.name for path in rig.cdi_dir.iterdir()] == ["nvidia.yaml"]


async def test_a_directory_that_cannot_be_written_announces_nothing_and_says_why(
    rig: Rig, nvml: NvmlDouble
) -> None:
    rig.cdi_dir.write_text("a file where the directory should be")
    await rig.stub.start()
    daemon = rig.start("--config", str(rig.config(CDI)))
    waiting = await daemon.wait_event("vendor_waits", vendor="nvidia")
    assert str(rig.cdi_dir) in waiting["reason"]
    assert rig.stub.registrations == []
    rig.cdi_dir.unlink()
    await rig.stub.wait_registered(*ALL)

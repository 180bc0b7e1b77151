"""What containers and virtual machines get, by each strategy."""

from pathlib import Path

import jsonschema
import pytest

from deviceplugin.model import Device, DeviceNode, Discovery, Mount
from deviceplugin.testing.tree import remove, write_tree
from deviceplugin.vendors.intel.vendor import IntelVendor
from tests.vendors.intel.conftest import Codes, FindDevice, MakeVendor, Offered

INSTANCES = {
    "instances": [{"name": "xe-4gb", "memory": "4GiB", "compute_units": 64, "execution_units": 32}]
}
CDI = ["cdi-cri", "cdi-annotations"]
# From the specification's schema (container-device-interface, schema/schema.json and defs.json).
DEVICE_NAMES = {
    "type": "object",
    "propertyNames": {"pattern": r"^[A-Za-z0-9][A-Za-z0-9_.:-]*[A-Za-z0-9]$"},
}


def of_resource(discovery: Discovery, name: str) -> list[Device]:
    return [d for d in discovery.devices if d.resource == name]


def test_a_container_gets_card_and_render_node_read_and_write(make_vendor: MakeVendor) -> None:
    vendor = make_vendor("b60")
    edits = vendor.container_edits(of_resource(vendor.discover(), "intel.com/gpu"))
    assert edits.device_nodes == tuple(
        DeviceNode(path=path, host_path=path, permissions="rw")
        for path in ("/dev/dri/card1", "/dev/dri/renderD128")
    )
    assert edits.env == {}


@pytest.mark.parametrize("tree", ["b60", "b60-6vf", "integrated-and-discrete", "max1550-4vf"])
@pytest.mark.parametrize("strategy", ["device-specs", "cdi-cri"])
def test_a_container_gets_the_links_of_its_own_gpu_as_a_directory(
    tree: str, strategy: str, make_vendor: MakeVendor
) -> None:
    vendor = make_vendor(tree, intel={"device_list_strategy": [strategy]})
    devices = vendor.discover().devices
    offered = [d for d in devices if d.resource and "vfio" not in d.resource]
    for device in offered:
        (mount,) = vendor.container_edits([device]).mounts
        assert (mount.path, mount.read_only) == ("/dev/dri/by-path", True)
        links = Path(vendor.host.path(mount.host_path)).iterdir()
        assert {path.name: str(path.readlink()) for path in links} == {
            f"pci-{device.id}-{kind}": f"../{device.attributes[kind].rpartition('/')[2]}"
            for kind in ("card", "render")
        }
    entries = [edits for spec in vendor.cdi_specs(devices) for edits in spec.devices.values()]
    assert not [mount for edits in entries for mount in edits.mounts]


def test_a_framebuffers_link_is_nothing_of_ours(
    make_vendor: MakeVendor, device: FindDevice
) -> None:
    gpu = device(make_vendor("integrated-and-discrete").discover(), "0000:00:02.0")
    assert gpu.attributes["by_path"] == "pci-0000:00:02.0-card,pci-0000:00:02.0-render"


def test_a_framebuffers_link_alone_mounts_nothing(
    make_vendor: MakeVendor, root: Path, device: FindDevice
) -> None:
    vendor = make_vendor("integrated-and-discrete")
    for kind in ("card", "render"):
        (root / f"dev/dri/by-path/pci-0000:00:02.0-{kind}").unlink()
    assert vendor.container_edits([device(vendor.discover(), "0000:00:02.0")]).mounts == ()


def test_several_gpus_of_a_container_have_their_links_in_one_directory(
    make_vendor: MakeVendor, root: Path
) -> None:
    vendor = make_vendor("b60-6vf")
    slices = of_resource(vendor.discover(), "intel.com/xe-4gb")[1:3]
    (mount,) = vendor.container_edits(slices).mounts
    links = {path.name for path in (root / mount.host_path[1:]).iterdir()}
    assert links == {f"pci-{d.id}-{kind}" for d in slices for kind in ("card", "render")}
    assert vendor.container_edits(slices).mounts == (mount,)
    assert (root / mount.host_path[1:]).stat().st_mode & 0o777 == 0o755


def seen(vendor: IntelVendor, mount: Mount) -> set[str]:
    return {path.name for path in Path(vendor.host.path(mount.host_path)).iterdir()}


def names(*devices: Device) -> set[str]:
    return {f"pci-{d.id}-{kind}" for d in devices for kind in ("card", "render")}


def test_a_container_with_gpus_of_two_answers_sees_the_links_of_both(
    make_vendor: MakeVendor,
) -> None:
    vendor = make_vendor("b60-6vf")
    one, other, third = of_resource(vendor.discover(), "intel.com/xe-4gb")[:3]
    mounts = [vendor.container_edits([device]).mounts[0] for device in (one, other, third)]
    vendor.held([[one, other], [third]])
    for mount in mounts[:2]:
        assert seen(vendor, mount) == names(one, other)
        links = Path(vendor.host.path(mount.host_path)).iterdir()
        assert {str(path.readlink()) for path in links} == {
            f"../{device.attributes[kind].rpartition('/')[2]}"
            for device in (one, other)
            for kind in ("card", "render")
        }
    assert seen(vendor, mounts[2]) == names(third)
    vendor.held([[third]])
    assert [seen(vendor, mount) for mount in mounts] == [names(d) for d in (one, other, third)]


def test_a_gpu_that_two_containers_share_shows_no_links_that_one_may_not_see(
    make_vendor: MakeVendor,
) -> None:
    vendor = make_vendor("b60-6vf")
    one, other = of_resource(vendor.discover(), "intel.com/xe-4gb")[:2]
    mounts = [vendor.container_edits([device]).mounts[0] for device in (one, other)]
    vendor.held([[one, other], [one]])
    assert [seen(vendor, mount) for mount in mounts] == [names(one), names(one, other)]


def test_links_of_both_are_made_again_and_survive_a_restart(
    make_vendor: MakeVendor, root: Path
) -> None:
    vendor = make_vendor("b60-6vf")
    one, other = of_resource(vendor.discover(), "intel.com/xe-4gb")[:2]
    mount = vendor.container_edits([one]).mounts[0]
    vendor.held([[one, other]])
    remove(root, "/var/run/deviceplugin")
    vendor.discover()
    assert seen(vendor, mount) == names(one, other)
    again = make_vendor("b60-6vf")
    assert again.container_edits([one]).mounts == (mount,)
    assert seen(again, mount) == names(one, other)
    again.held([])
    assert seen(again, mount) == names(one)


def test_a_place_that_cannot_be_written_costs_the_links_alone(
    make_vendor: MakeVendor, root: Path
) -> None:
    vendor = make_vendor("b60-6vf")
    one, other = of_resource(vendor.discover(), "intel.com/xe-4gb")[:2]
    vendor.container_edits([one])
    remove(root, "/var/run/deviceplugin")
    vendor.held([[one, other]])
    assert vendor.container_edits([one]).mounts


def test_links_that_somebody_removes_are_made_again(make_vendor: MakeVendor, root: Path) -> None:
    vendor = make_vendor("b60")
    (mount,) = vendor.container_edits(vendor.discover().devices).mounts
    remove(root, "/var/run/deviceplugin")
    vendor.discover()
    assert len(list((root / mount.host_path[1:]).iterdir())) == 2


def test_links_that_cannot_be_written_cost_no_container(
    make_vendor: MakeVendor, root: Path, codes: Codes
) -> None:
    vendor = make_vendor("b60")
    write_tree(root, "/var/run/deviceplugin = a file in the way")
    devices = vendor.discover().devices
    edits = vendor.container_edits(devices)
    assert (len(edits.device_nodes), edits.mounts) == (2, ())
    assert codes(vendor.discover()) == [("0000:04:00.0", "no_links")]
    remove(root, "/var/run/deviceplugin")
    assert vendor.container_edits(devices).mounts
    assert codes(vendor.discover()) == []


def test_a_look_writes_nothing(make_vendor: MakeVendor, root: Path) -> None:
    make_vendor("b60").discover()
    assert not (root / "var").exists()


def test_links_by_path_can_be_turned_off(make_vendor: MakeVendor) -> None:
    vendor = make_vendor("b60", intel={"by_path": False})
    assert vendor.container_edits(vendor.discover().devices).mounts == ()


def test_a_virtual_machine_gets_its_groups_and_all_addresses(make_vendor: MakeVendor) -> None:
    vendor = make_vendor("b60-6vf")
    edits = vendor.container_edits(of_resource(vendor.discover(), "intel.com/xe-4gb-vfio"))
    assert edits.env == {"PCI_RESOURCE_INTEL_COM_XE-4GB-VFIO": "0000:04:00.5,0000:04:00.6"}
    assert edits.device_nodes == tuple(
        DeviceNode(path=path, host_path=path, permissions="mrw")
        for path in ("/dev/vfio/vfio", "/dev/vfio/41", "/dev/vfio/42")
    )
    assert edits.mounts == ()


def test_a_virtual_machine_gets_iommufd_where_the_kernel_has_it(
    make_vendor: MakeVendor, root: Path
) -> None:
    vendor = make_vendor("b60-6vf")
    write_tree(root, "/dev/iommu c 10:126\n/dev/vfio/devices/vfio5 c 511:5")
    (first, _) = of_resource(vendor.discover(), "intel.com/xe-4gb-vfio")
    paths = [node.path for node in vendor.container_edits([first]).device_nodes]
    assert paths == ["/dev/vfio/vfio", "/dev/vfio/41", "/dev/vfio/devices/vfio5", "/dev/iommu"]


@pytest.mark.parametrize("strategy", ["device-specs", "cdi-cri", "cdi-annotations"])
@pytest.mark.parametrize("resource", ["intel.com/xe-4gb", "intel.com/xe-4gb-vfio"])
def test_a_pinned_slice_is_told_its_memory_and_compute_units(
    resource: str, strategy: str, make_vendor: MakeVendor
) -> None:
    vendor = make_vendor("b60-6vf", intel_xe=INSTANCES, intel={"device_list_strategy": [strategy]})
    edits = vendor.container_edits(of_resource(vendor.discover(), resource)[:1])
    assert edits.env["INTEL_XE_MEMORY"] == "4GiB"
    assert edits.env["INTEL_XE_COMPUTE_UNITS"] == "64"


def test_a_pinned_slice_in_a_guest_is_told_the_same(make_vendor: MakeVendor) -> None:
    vendor = make_vendor("guest-vf", query=lambda driver, node: 4227858432, intel_xe=INSTANCES)
    edits = vendor.container_edits(vendor.discover().devices)
    assert edits.env == {"INTEL_XE_MEMORY": "4GiB", "INTEL_XE_COMPUTE_UNITS": "64"}


def test_what_the_list_does_not_say_is_not_told(make_vendor: MakeVendor) -> None:
    vendor = make_vendor("b60-6vf", intel_xe={"instances": [{"name": "xe-4gb", "memory": "4GiB"}]})
    edits = vendor.container_edits(of_resource(vendor.discover(), "intel.com/xe-4gb"))
    assert edits.env == {"INTEL_XE_MEMORY": "4GiB"}


def test_cdi_names_stand_for_the_nodes(make_vendor: MakeVendor) -> None:
    vendor = make_vendor("b60", intel={"device_list_strategy": ["cdi-cri"]})
    edits = vendor.container_edits(vendor.discover().devices)
    assert edits.cdi_devices == ("k8s.device-plugin.intel.com/gpu=0000:04:00.0",)
    assert edits.device_nodes == ()
    assert [mount.path for mount in edits.mounts] == ["/dev/dri/by-path"]  # of two, one answer


def test_cdi_annotations_of_two_answers_do_not_meet(make_vendor: MakeVendor) -> None:
    vendor = make_vendor("b60-6vf", intel={"device_list_strategy": ["cdi-annotations"]})
    discovery = vendor.discover()
    answers = [
        vendor.container_edits(of_resource(discovery, name)[:1]).annotations
        for name in ("intel.com/xe-4gb", "intel.com/xe-4gb-vfio")
    ]
    assert answers[0] == {
        "cdi.k8s.io/deviceplugin-intel_0000-04-00.1": "k8s.device-plugin.intel.com/gpu=0000:04:00.1"
    }
    assert answers[0].keys().isdisjoint(answers[1])


@pytest.mark.parametrize("tree", ["b60-6vf", "integrated-and-discrete", "survivability"])
def test_cdi_entries_are_what_an_answer_by_nodes_gives(tree: str, make_vendor: MakeVendor) -> None:
    by_nodes = make_vendor(tree)
    by_cdi = make_vendor(tree, intel={"device_list_strategy": CDI, "monitoring": 1})
    devices = by_cdi.discover().devices
    (spec,) = by_cdi.cdi_specs(devices)
    jsonschema.validate(dict(spec.devices), DEVICE_NAMES)
    assert set(spec.devices) == {d.id for d in devices if d.resource}
    for device in devices:
        if device.resource:
            edits = by_nodes.container_edits([device])
            entry = spec.devices[device.id]
            assert (entry.device_nodes, entry.mounts) == (edits.device_nodes, ())
            assert entry.env == {}


def test_the_cdi_file_is_empty_where_no_answer_names_it(make_vendor: MakeVendor) -> None:
    vendor = make_vendor("b60")
    (spec,) = vendor.cdi_specs(vendor.discover().devices)
    assert (spec.kind, dict(spec.devices)) == ("k8s.device-plugin.intel.com/gpu", {})


def test_each_monitor_gets_every_node_of_every_gpu(
    make_vendor: MakeVendor, root: Path, offered: Offered
) -> None:
    vendor = make_vendor("integrated-and-discrete", intel={"monitoring": 2})
    write_tree(
        root,
        "/sys/devices/pci0000:00/0000:04:00.0/xe.mei-gscfi.768/mei/mei1/dev = 238:1\n"
        "/dev/mei1 c 238:1",
    )
    discovery = vendor.discover()
    assert offered(discovery) == {"intel.com/gpu": 2, "intel.com/gpu-monitoring": 2}
    monitors = of_resource(discovery, "intel.com/gpu-monitoring")
    assert [d.id for d in monitors] == ["intel-monitoring-0", "intel-monitoring-1"]
    for monitor in monitors:
        paths = [node.path for node in vendor.container_edits([monitor]).device_nodes]
        assert paths == [
            "/dev/dri/card0",
            "/dev/dri/card1",
            "/dev/dri/renderD128",
            "/dev/dri/renderD129",
            "/dev/mei1",
        ]


def test_monitoring_has_nothing_to_give_on_a_node_without_nodes(
    make_vendor: MakeVendor, offered: Offered
) -> None:
    assert offered(make_vendor("survivability", intel={"monitoring": 2}).discover()) == {}

"""`deviceplugin dra`: slices of this node, and what a CEL selector takes of them."""

import json
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from deviceplugin.cli import cli
from deviceplugin.cli.cel import Expression, compared, quantity, semver
from deviceplugin.cli.claims import claimed, with_slices
from deviceplugin.cli.dra import dra_remarks, match_text, matched, slices_text
from deviceplugin.cli.explain import explanation_text
from deviceplugin.cli.frame import end_in_words
from deviceplugin.cli.tables import report_text
from deviceplugin.dra.attributes import link_groups
from deviceplugin.dra.report import dra_document, minor_of
from deviceplugin.errors import ConfigError
from deviceplugin.model import Device, DeviceID, Fault, Link
from deviceplugin.testing.amd import DEMO_GPUS, V620_HOST, write_amd_node
from deviceplugin.testing.dra import ClaimName
from tests.dra.simulated import DRIVER, gpus, simulated

TYPE = f'device.attributes["{DRIVER}"].type == "gpu"'


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    status = 0
    try:
        end_in_words(lambda: cli.main(list(arguments), standalone_mode=False))
    except SystemExit as end:
        status = int(end.code or 0)
    return status, *capsys.readouterr()


def a_device(name: str = "gpu-0", **changes: Any) -> Any:
    return {
        "name": name,
        "id": f"id-{name}",
        "nodes": [],
        "attributes": {
            "type": {"string": "gpu"},
            "driverVersion": {"version": "570.86.3"},
            "index": {"int": 3},
            "resource.kubernetes.io/numaNode": {"int": 1},
        },
        "capacity": {"memory": "80Gi"},
        "several": False,
        "taints": [],
        "claims": [],
    } | changes


def a_document(*devices: Any) -> Any:
    driver = {"driver": DRIVER, "pool": "node-1", "slices": 1, "problem": "", "left_out": []}
    return {"node": "node-1", "drivers": [driver | {"devices": list(devices or [a_device()])}]}


@pytest.mark.parametrize(
    ("expression", "matches"),
    [
        (f'device.driver == "{DRIVER}"', True),
        (TYPE, True),
        (f'device.capacity["{DRIVER}"].memory.compareTo(quantity("40Gi")) >= 0', True),
        (f'device.capacity["{DRIVER}"].memory.isGreaterThan(quantity("80Gi"))', False),
        (f'device.capacity["{DRIVER}"].memory == quantity("81920Mi")', True),
        (f'device.capacity["{DRIVER}"].memory.asInteger() == 85899345920', True),
        (f'device.attributes["{DRIVER}"].driverVersion.isLessThan(semver("570.100.0"))', True),
        (f'device.attributes["{DRIVER}"].driverVersion.major() == 570', True),
        (f'device.attributes["{DRIVER}"].?profile.orValue("") == "1g.5gb"', False),
        (f'cel.bind(d, device.attributes["{DRIVER}"], d.type == "gpu" && d.index > 2)', True),
        ('device.attributes["resource.kubernetes.io"].numaNode == 1', True),
        ('has(device.attributes["nobody.example.com"].x)', False),
        ('isQuantity("40Gi") && !isSemver("40")', True),
        ("device.allowMultipleAllocations", False),
        ("device.driver.startsWith('gpu.') && device.driver.lowerAscii() != ''", True),
    ],
)
def test_a_selector_is_evaluated_as_the_scheduler_does(expression: str, matches: bool) -> None:
    (one,) = matched(a_document(), expression)["devices"]
    assert (one["matches"], one["error"]) == (matches, None)


@pytest.mark.parametrize(
    ("expression", "text"),
    [
        (f'device.attributes["{DRIVER}"].profile == "1g.5gb"', "profile"),
        (f'device.attributes["{DRIVER}"].type', "gives STRING gpu"),
    ],
)
def test_an_error_on_a_device_is_no_answer(expression: str, text: str) -> None:
    document = matched(a_document(), expression)
    (one,) = document["devices"]
    assert one["matches"] is None
    assert text in one["error"]
    assert "on an error nothing is allocated" in match_text(document)


@pytest.mark.parametrize(
    "expression", ["device.", "devic.driver == ''", "quantity(5)", "x" * 20000]
)
def test_what_is_no_cel_is_refused_with_the_place(expression: str) -> None:
    with pytest.raises(ConfigError, match="EXPRESSION"):
        Expression(expression)


def test_versions_and_quantities_have_an_order() -> None:
    versions = ["1.0.0-alpha", "1.0.0-alpha.1", "1.0.0-beta", "1.0.0", "1.0.10", "1.2.0"]
    for number, one in enumerate(versions[1:]):
        assert compared(semver(versions[number]), semver(one)) == -1
    assert compared(quantity("1Gi"), quantity("1024Mi")) == 0
    with pytest.raises(ValueError, match="cannot be compared"):
        compared(quantity("1"), semver("1.0.0"))


@pytest.mark.parametrize("release", ["1.33", "34", "1.34.1", "2.0"])
def test_a_release_without_dra_is_refused(release: str) -> None:
    with pytest.raises(ConfigError, match="--release"):
        minor_of(release)


async def test_the_document_has_what_is_published_and_who_has_it(short_dir: Path) -> None:
    async with simulated(short_dir) as node, node.registered() as driver:
        node.api.allocate("one", "u-1", ["gpu-1"])
        await driver.prepare(ClaimName(uid="u-1", name="one"))
        faults = [Fault(device=DeviceID("GPU-2"), source="test", code="lost", reason="lost")]
        node.store.set_faults("test", faults)
        document = dra_document("node-1", node.node.drivers.values())
        (shown,) = document["drivers"]
        devices = {one["name"]: one for one in shown["devices"]}
        assert set(devices) == set(node.api.devices)
        assert devices["gpu-1"]["claims"] == ["default/one"]
        assert devices["gpu-1"]["nodes"] == ["/dev/nvidia1"]
        assert devices["gpu-2"]["taints"] == [f"{DRIVER}/lost=test:NoSchedule"]
        assert claimed(document) == {"GPU-1": "default/one"}
        text = slices_text(document)
        assert "4 devices in 1 slices" in text
        assert "default/one" in text
        before = dra_document("node-1", node.node.drivers.values(), 34)
        assert "gpu-2" not in {one["name"] for one in before["drivers"][0]["devices"]}


def test_other_commands_say_who_has_a_claim() -> None:
    document = a_document(a_device(claims=["team/train"]), a_device("gpu-1"))
    report = {"node": "n", "vendors": [], "devices": [], "resources": {}, "sharing": {}}
    text = report_text(with_slices(report, document))
    assert "gpu-0: team/train" in text
    assert with_slices(report, None) == report
    assert list(dra_remarks(document)) == [f"dra: driver {DRIVER} publishes 2 devices in 1 slices"]
    gpu = {"count": 1, "gpu": "g", "pci_address": None, "numa_node": None}
    choice = {"score": {"policy": 0, "links": 0, "rest": 0}, "pairs": {}, "ids": ["g"]}
    explained = {
        "resource": "r",
        "size": 1,
        "available": 1,
        "policy": "p",
        "must_include": [],
        "chosen": choice | {"gpus": [gpu | {"in_use_before_percent": 0}]},
        "runners_up": [],
        "isolation": "none",
        "claims": claimed(document),
    }
    assert "not free: id-gpu-0: claim team/train" in explanation_text(explained)


def test_the_commands_show_a_node_without_a_daemon(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_amd_node(tmp_path, DEMO_GPUS[:1], [])
    here = ("--host-root", str(tmp_path), "--vendors", "amd", "--node-name", "node-1")
    status, out, _ = run(capsys, "dra", "slices", *here, "--format", "json")
    (driver,) = json.loads(out)["drivers"]
    assert (status, driver["driver"]) == (0, "gpu.amd.com")
    expression = 'device.attributes["gpu.amd.com"].type == "amdgpu"'
    status, out, _ = run(capsys, "dra", "match", expression, *here)
    assert (status, "1 of 1 devices match" in out) == (0, True)
    status, out, _ = run(capsys, "dra", "match", "device.attributes['a'].b == 1", *here)
    assert (status, "error: " in out) == (1, True)
    status, _, error = run(capsys, "dra", "match", "device.", *here)
    assert (status, "EXPRESSION" in error) == (2, True)
    config = tmp_path / "config.yaml"
    config.write_text("dra: {enabled: true}\n")
    _, _, told = run(capsys, "check", "--node", "--config", str(config), *here[:4])
    assert "dra: driver gpu.amd.com publishes 1 devices in 1 slices" in told


def test_functions_for_virtual_machines_are_left_out_with_the_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_amd_node(tmp_path, DEMO_GPUS[:1], [replace(V620_HOST, functions=2)])
    here = ("--host-root", str(tmp_path), "--vendors", "amd", "--node-name", "node-1")
    status, out, _ = run(capsys, "dra", "slices", *here, "--format", "json")
    (driver,) = json.loads(out)["drivers"]
    assert status == 0
    assert [one["attributes"]["type"]["string"] for one in driver["devices"]] == ["amdgpu"]
    assert [text.partition(": ")[0] for text in driver["left_out"]] == [
        "device 0000:c3:02.0",
        "device 0000:c3:02.1",
    ]
    assert all("for a virtual machine" in text for text in driver["left_out"])


def test_linked_gpus_are_of_one_group_and_others_of_their_own() -> None:
    one, two, three, four = gpus(4)
    linked = [
        _linked(one, (two.id, "NVLINK"), (three.id, "PCIE")),
        _linked(two, (one.id, "NVLINK")),
        _linked(three, (one.id, "PCIE")),
        _linked(four, (two.id, "XGMI"), (DeviceID("elsewhere"), "NVLINK")),
    ]
    groups = link_groups({device.id: device for device in linked})
    assert groups == {one.id: one.id, two.id: one.id, three.id: three.id, four.id: one.id}


def _linked(device: Device, *links: tuple[DeviceID, str]) -> Device:

    return replace(device, links=tuple(Link(peer=peer, kind=kind) for peer, kind in links))

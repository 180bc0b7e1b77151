"""What identifies a machine is replaced, the same everywhere, and nothing else is."""

import json
import re

import pytest

from deviceplugin.diagnose.redact import Redactor, identities

UUID = "GPU-3d2f1c0b-aaaa-bbbb-cccc-0123456789ab"


def redacted(*texts: str, key: str = "machine", names: tuple[str, ...] = ()) -> list[str]:
    redactor = Redactor(key, names)
    redactor.learn(texts)
    return [redactor.text(text) for text in texts]


def test_a_uuid_keeps_its_form_and_is_the_same_everywhere() -> None:
    first, second = redacted(
        f"<uuid>{UUID}</uuid>", f'{{"id": "{UUID.lower()}"}}'.replace("gpu", "GPU")
    )
    found = re.search(r"GPU-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", first)
    assert found is not None
    assert UUID not in first
    assert found[0] in second


def test_another_machine_makes_another_replacement() -> None:
    assert redacted(UUID) == redacted(UUID)
    assert redacted(UUID) != redacted(UUID, key="another")


@pytest.mark.parametrize(
    "text",
    [
        "<serial>1322121000003</serial>",
        "<gpu_fabric_guid>1322121000003</gpu_fabric_guid>",
        "<chassis_serial_number>1322121000003</chassis_serial_number>",
        '{"serial_number": "1322121000003"}',
        "/sys/bus/pci/devices/0000:05:00.0/serial_number = 1322121000003",
    ],
)
def test_a_serial_number_is_replaced_wherever_else_it_stands(text: str) -> None:
    redactor = Redactor("machine")
    redactor.learn([text])
    assert "1322121000003" not in redactor.text(text)
    assert "1322121000003" not in redactor.text("board 1322121000003 of the node")
    assert redactor.counts["serial number"] == 1


@pytest.mark.parametrize(
    "text", ["<serial>N/A</serial>", '{"serial": null}', '{"serial": "0000000"}']
)
def test_no_serial_number_is_none(text: str) -> None:
    assert redacted(text, "N/A null 0000000") == [text, "N/A null 0000000"]


def test_the_identifier_of_a_device_in_nvidia_smis_xml_is_a_unique_id() -> None:
    (text,) = redacted("<pdi>0xe3aa140f9a5f9e31</pdi>")
    assert re.fullmatch(r"<pdi>0x[0-9a-f]{16}</pdi>", text)
    assert "e3aa140f9a5f9e31" not in text


def test_a_unique_id_is_the_same_in_sysfs_in_kfd_and_in_our_ids() -> None:
    number = 0xE3AA140F9A5F9E31
    tree, properties, ours = redacted(
        f"/sys/bus/pci/devices/0000:05:00.0/unique_id = {number:016x}",
        f"/sys/class/kfd/kfd/properties = simd_count 4\\nunique_id {number}\\nhive_id 0",
        json.dumps({"id": f"amd-{number:016x}-p3"}),
    )
    made = tree.rpartition(" ")[2]
    assert made != f"{number:016x}"
    assert f"unique_id {int(made, 16)}\\n" in properties
    assert json.loads(ours)["id"] == f"amd-{made}-p3"


def test_a_hive_is_the_same_in_sysfs_and_in_kfd() -> None:
    hive = 12609507387757274807
    tree, properties = redacted(
        f"/sys/devices/pci0000:40/0000:05:00.0/xgmi_hive_info/xgmi_hive_id = {hive}",
        f"/sys/class/kfd/kfd/properties = hive_id {hive}\\nunique_id 0",
    )
    made = tree.rpartition(" ")[2]
    assert made != str(hive)
    assert f"hive_id {made}\\n" in properties


def test_host_names_are_replaced_as_words() -> None:
    (text,) = redacted("gpu-7.example.org gpu-7 gpu-77", names=("gpu-7", "gpu-7.example.org"))
    first, second, third = text.split()
    assert first == second != "gpu-7"
    assert third == "gpu-77"


def test_what_identifies_nobody_stays() -> None:
    text = "0000:07:00.0 NVIDIA A100-SXM4-40GB 42298834944 550.163.01 localhost NV12"
    redactor = Redactor("machine", ("localhost",))
    assert redactor.text(text) == text
    assert not redactor.counts


def test_the_counts_say_how_many_values_there_were() -> None:
    redactor = Redactor("machine", ("gpu-7",))
    redactor.text(f"{UUID} {UUID} gpu-7 02:42:ac:11:00:02")
    assert redactor.counts == {"UUID": 1, "host name": 1, "MAC address": 1}


def test_the_identities_of_a_machine_are_its_uuids() -> None:
    assert identities([UUID, f"{UUID} {UUID.upper()}", "none"]) == UUID.removeprefix("GPU-")

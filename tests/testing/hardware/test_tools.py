"""What is read from the vendors' tools, and what is compared."""

from typing import Any

import pytest

from deviceplugin.testing.hardware.compare import compare
from deviceplugin.testing.hardware.tools import (
    TOOLS,
    ToolGpu,
    ask,
    parse_amd_smi,
    parse_nvidia_smi,
    parse_settings,
    parse_xpu_smi,
    with_links,
)
from deviceplugin.testing.hardware.topology import nvlinks, parse_topology
from deviceplugin.testing.hardware.verdict import Verdict, status, table
from tests.fakes.nvml import a100_40gb, with_mig
from tests.testing.hardware.conftest import Install, matrix, nvidia_smi_xml

NVIDIA, AMD, INTEL = TOOLS
XML = nvidia_smi_xml([a100_40gb(0), a100_40gb(1), with_mig(a100_40gb(2), ["3g.20gb", "1g.5gb"])])
WORDS = [["X", "NV12", "SYS"], ["NV12", "X", "NODE"], ["SYS", "NODE", "X"]]


def device(index: int, **changes: Any) -> dict[str, Any]:
    """An A100 as `discover` prints it; the same as GPU `index` of XML."""
    gpu = a100_40gb(index)
    attributes = {"minor": str(index), "mig": "disabled", "ecc": "enabled"}
    plain = {
        "id": gpu.uuid,
        "vendor": "nvidia",
        "product": gpu.name,
        "parent": None,
        "pci_address": gpu.bdf,
        "memory_bytes": gpu.memory_total_bytes,
        "nodes": [f"/dev/nvidia{index}"],
        "links": [],
        "attributes": attributes,
    }
    return plain | changes | {"attributes": attributes | changes.get("attributes", {})}


def link(peer: int, kind: str, width: int = 1, weight: int | None = None) -> dict[str, Any]:
    return {"peer": a100_40gb(peer).uuid, "kind": kind, "width": width, "weight": weight}


OURS = [
    device(0, links=[link(1, "NVLINK", 12), link(1, "PCIE", 1, 50)]),
    device(1, links=[link(0, "NVLINK", 12), link(0, "PCIE", 1, 50)]),
    device(2, attributes={"mig": "enabled"}),
    *(
        device(
            2,
            id=f"MIG-{n}",
            parent=a100_40gb(2).uuid,
            attributes={"gpu_instance": str(part.gi), "compute_instance": "0"},
        )
        for n, part in enumerate(with_mig(a100_40gb(2), ["3g.20gb", "1g.5gb"]).mig)
    ),
]


def theirs() -> tuple[ToolGpu, ...]:
    return with_links(parse_nvidia_smi(XML), matrix(WORDS))


def verdicts(ours: list[dict[str, Any]], gpus: tuple[ToolGpu, ...]) -> dict[str, str]:
    """What is not `agree`, with its first detail."""
    return {
        check.name.removeprefix("nvidia-smi: "): f"{check.verdict}: {check.details[0]}"
        for check in compare(NVIDIA, gpus, ours)
        if check.verdict is not Verdict.AGREE
    }


def test_the_same_gpus_agree_in_everything() -> None:
    assert verdicts(OURS, theirs()) == {}


@pytest.mark.parametrize(
    ("change", "check", "detail"),
    [
        ({"id": "GPU-x"}, "UUID", "0000:07:00.0: we say GPU-x, it " + a100_40gb(0).uuid),
        ({"product": "A100"}, "name", "0000:07:00.0: we say A100, it NVIDIA A100-SXM4-40GB"),
        ({"memory_bytes": 40 << 30}, "memory", f"0000:07:00.0: we say {40 << 30}, it 42298507264"),
        ({"attributes": {"minor": "7"}}, "minor", "0000:07:00.0: we say 7, it 0"),
        ({"attributes": {"ecc": "disabled"}}, "ECC mode", "we say disabled, it enabled"),
        ({"attributes": {"mig": "enabled"}}, "MIG mode", "we say enabled, it disabled"),
        (
            {"links": [link(1, "NVLINK", 4)]},
            "links",
            "0000:07:00.0 to 0000:0f:00.0: we say 4 NVLinks, it NV12",
        ),
        ({"links": [link(1, "PCIE", 1, 50)]}, "links", "we say 0 NVLinks, it NV12"),
    ],
    ids=["uuid", "name", "memory", "minor", "ecc", "mig", "nvlinks", "no-nvlink"],
)
def test_a_difference_is_told(change: dict[str, Any], check: str, detail: str) -> None:
    ours = [{**OURS[0], **change, "attributes": device(0, **change)["attributes"]}, *OURS[1:]]
    found = verdicts(ours, theirs())
    assert found[check].startswith("differ: ")
    assert detail in found[check]


def test_pcie_levels_are_compared_where_there_is_no_nvlink() -> None:
    words = [["X", "PXB"], ["PXB", "X"]]
    gpus = with_links(parse_nvidia_smi(nvidia_smi_xml([a100_40gb(0), a100_40gb(1)])), matrix(words))
    ours = [
        device(0, links=[link(1, "PCIE", 1, 20)]),
        device(1, links=[link(0, "PCIE", 1, 50)]),
    ]
    told = "0000:0f:00.0 to 0000:07:00.0: we say PCIe level 50, it PXB"
    assert verdicts(ours, gpus)["links"] == f"differ: {told}"


def test_links_that_we_have_lost_are_a_difference() -> None:
    words = [["X", "PIX"], ["PIX", "X"]]
    gpus = with_links(parse_nvidia_smi(nvidia_smi_xml([a100_40gb(0), a100_40gb(1)])), matrix(words))
    told = "0000:07:00.0 to 0000:0f:00.0: we say PCIe level None, it PIX"
    assert verdicts([device(0), device(1)], gpus)["links"] == f"differ: {told}"


def test_a_gpu_that_only_one_finds_is_named() -> None:
    found = verdicts(OURS[1:], theirs())
    assert found["count"] == "differ: we find 2 GPUs, it 3"
    assert found["PCI address"] == "differ: 0000:07:00.0: only it finds it"
    found = verdicts(OURS, theirs()[1:])
    assert found["PCI address"] == "differ: 0000:07:00.0: only we find it"


def test_mig_instances_are_compared_by_their_numbers() -> None:
    found = verdicts(OURS[:-1], theirs())
    gi, other = (part.gi for part in with_mig(a100_40gb(2), ["3g.20gb", "1g.5gb"]).mig)
    both = " ".join(f"gi{n}/ci0" for n in sorted((gi, other)))
    assert found["partitions"] == f"differ: 0000:17:00.0: we say gi{gi}/ci0, it {both}"


def test_what_one_does_not_say_is_not_available() -> None:
    silent = nvidia_smi_xml([a100_40gb(0)], serial="N/A", minor_number="N/A", current_ecc="N/A")
    found = verdicts([device(0)], parse_nvidia_smi(silent))
    assert found["minor"] == "not available: it does not say it"
    assert found["ECC mode"] == "not available: it does not say it"
    assert found["links"] == "not available: it tells of no pair of GPUs"


def test_the_marks_of_a_trade_name_are_no_difference() -> None:
    ours = device(0, vendor="intel", product="Intel Data Center GPU Flex 170")
    theirs = ToolGpu(pci_address="0000:07:00.0", name="Intel(R) Data Center GPU Flex 170")
    (check,) = (c for c in compare(INTEL, [theirs], [ours]) if c.name == "xpu-smi: name")
    assert check.verdict is Verdict.AGREE


def test_memory_in_whole_mib_is_the_same_memory() -> None:
    (gpu,) = parse_nvidia_smi(nvidia_smi_xml([a100_40gb(0)]))
    assert gpu.memory_bytes != a100_40gb(0).memory_total_bytes
    assert "memory" not in verdicts([device(0)], (gpu,))


@pytest.mark.parametrize("wrapped", [False, True], ids=["a list (ROCm 6)", "an object (ROCm 7)"])
def test_amd_smi_tells_partitions_by_their_function(*, wrapped: bool) -> None:
    rows = ", ".join(
        f'{{"gpu": {n}, "bdf": "0000:27:00.{n}", "uuid": "x", "partition_id": {n}}}'
        for n in range(8)
    )
    rows += ', {"gpu": 8, "bdf": "0000:05:00.0", "uuid": "y", "partition_id": "N/A"}'
    text = f'{{"gpu_data": [{rows}]}}' if wrapped else f"[{rows}]"
    found = {gpu.pci_address: len(gpu.parts or ()) for gpu in parse_amd_smi(text)}
    assert found == {"0000:05:00.0": 1, "0000:27:00.0": 8}


def test_xpu_smi_tells_physical_functions() -> None:
    text = """{"device_list": [
        {"device_function_type": "physical", "device_name": "Intel(R) Arc(TM) Pro B60 Graphics",
         "drm_device": "/dev/dri/card1", "pci_bdf_address": "0000:04:00.0"},
        {"device_function_type": "virtual", "pci_bdf_address": "0000:04:00.1"}]}"""
    (gpu,) = parse_xpu_smi(text)
    assert (gpu.pci_address, gpu.minor) == ("0000:04:00.0", "/dev/dri/card1")


@pytest.mark.parametrize("tool", TOOLS, ids=lambda tool: tool.name)
@pytest.mark.parametrize("text", ["", "No devices were found\n", "{}", "<a>", '[{"gpu": 0}]'])
def test_an_output_that_cannot_be_read_is_no_gpu_and_no_crash(tool: Any, text: str) -> None:
    try:
        assert tool.parse(text) == ()
    except ValueError as error:
        assert str(error)


def test_settings_are_told_for_each_gpu() -> None:
    found = parse_settings(XML)
    assert found["00000000:07:00.0 persistence_mode"] == "Enabled"
    assert found["00000000:17:00.0 mig_mode/current_mig"] == "Enabled"


def test_the_matrix_holds_pairs_of_gpus_only() -> None:
    assert parse_topology(matrix(WORDS)) == {
        (0, 1): "NV12",
        (0, 2): "SYS",
        (1, 0): "NV12",
        (1, 2): "NODE",
        (2, 0): "SYS",
        (2, 1): "NODE",
    }
    assert (nvlinks("NV12"), nvlinks("NODE")) == (12, 0)
    assert parse_topology("") == {}


@pytest.mark.slow
def test_a_tool_that_fails_or_is_absent_says_so(install: Install) -> None:
    assert ask(("nvidia-smi", "-q", "-x")).problem == "nvidia-smi is not installed"
    install("nvidia-smi")
    problem = ask(("nvidia-smi", "-q", "-x")).problem
    assert problem == "nvidia-smi -q -x ended with status 1: no such answer"


@pytest.mark.slow
def test_a_tool_that_hangs_is_ended(install: Install) -> None:
    install("nvidia-smi").write_text("#!/bin/sh\nexec /bin/sleep 3600\n")
    problem = ask(("nvidia-smi", "-q", "-x"), 0.2).problem
    assert problem == "nvidia-smi -q -x did not end within 0.2 s"


def test_the_table_has_a_line_for_each_check_and_counts_them() -> None:
    checks = compare(NVIDIA, theirs()[:1], OURS[1:2])
    text = table(checks)
    assert text.splitlines()[0] == "nvidia-smi: count        agree          1 GPUs"
    assert "only we find it" in text
    assert "only it finds it" in text
    assert text.endswith("1 agree, 1 differ, 8 not available\n")
    assert (status(checks), status(checks[:1])) == (1, 0)

"""A test double of libnvidia-ml.so.1: real pynvml on top, a written scenario below.

    double = NvmlDouble(root, scenario=Scenario(gpus=(a100_40gb(0), a100_40gb(1))))
    write_host_tree(root, double.scenario)
    double.lose(1)

Names for tests stand here; the C side and the scenario's text format are described in README.md.
"""

from tests.fakes.nvml.cards import (
    a30,
    a100_40gb,
    a100_80gb,
    b200,
    ci_profiles_of,
    gpu_uuid,
    h100_80gb,
    h200,
)
from tests.fakes.nvml.control import MIG_CONFIG_EVENT, NO_INSTANCE, XID_EVENT, NvmlDouble
from tests.fakes.nvml.host import ci_minor, gi_minor, write_host_tree
from tests.fakes.nvml.library import build_library
from tests.fakes.nvml.links import with_nvlink_pairs, with_nvswitch
from tests.fakes.nvml.model import (
    CiProfile,
    EccCounter,
    Fabric,
    Fault,
    GiProfile,
    Gpu,
    MigInstance,
    NvLink,
    Process,
    RemappedRows,
    RowHistogram,
    Scenario,
    SramErrors,
)
from tests.fakes.nvml.partition import mig_uuid, with_mig, without_mig
from tests.fakes.nvml.render import render

__all__ = [
    "MIG_CONFIG_EVENT",
    "NO_INSTANCE",
    "XID_EVENT",
    "CiProfile",
    "EccCounter",
    "Fabric",
    "Fault",
    "GiProfile",
    "Gpu",
    "MigInstance",
    "NvLink",
    "NvmlDouble",
    "Process",
    "RemappedRows",
    "RowHistogram",
    "Scenario",
    "SramErrors",
    "a30",
    "a100_40gb",
    "a100_80gb",
    "b200",
    "build_library",
    "ci_minor",
    "ci_profiles_of",
    "gi_minor",
    "gpu_uuid",
    "h100_80gb",
    "h200",
    "mig_uuid",
    "render",
    "with_mig",
    "with_nvlink_pairs",
    "with_nvswitch",
    "without_mig",
    "write_host_tree",
]

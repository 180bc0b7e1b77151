"""What a metric of devices is, and what its name is elsewhere; pure."""

from collections.abc import Mapping
from typing import Literal

from msgspec import Struct, field

PREFIX = "deviceplugin_gpu_"
# What every series of a device has. `uuid` is the device's id as in other series, `index` that of
# the GPU, `partition` what a partition is named by, empty for a whole GPU.
COMMON = ("vendor", "uuid", "index", "pci", "model", "partition")
# What a series of a device has besides where one container holds the device alone.
OWNER = ("namespace", "pod", "container")
Kind = Literal["counter", "gauge"]
Family = Literal["dcgm", "amd", "xpumd", "accelerator"]
Where = tuple[tuple[str, str], ...]


class Alias(Struct, frozen=True, kw_only=True):
    """A name that another exporter has for a metric.

    Its value is that of the reading with the labels `where`, times `scale`. `labels` are fixed
    labels of the alias.
    """

    family: Family
    name: str
    help: str
    kind: Kind = "gauge"
    where: Where = ()
    labels: Where = ()
    scale: float = 1.0


class Metric(Struct, frozen=True, kw_only=True):
    """One metric; `labels` are those beside the common ones, `unit` is empty for a count."""

    key: str
    help: str
    kind: Kind = "gauge"
    unit: str = ""
    labels: tuple[str, ...] = ()
    sources: Mapping[str, str] = field(default_factory=dict)
    aliases: tuple[Alias, ...] = ()

    @property
    def name(self) -> str:
        """The name on /metrics."""
        return PREFIX + self.key

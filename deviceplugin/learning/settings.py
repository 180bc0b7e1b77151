"""The section `ai_scheduler` as numbers: a value; pure."""

from msgspec import Struct

from deviceplugin.metrics.store import Access


class Learning(Struct, frozen=True, kw_only=True):
    """The section `ai_scheduler`, in seconds: how often is learned, from runs of how long, how many
    nodes are judged between two looks at the clock, and how long that may take for a pod. Runs come
    from `prometheus`, or from the nodes' daemons by `histories`, or from what is watched alone."""

    interval_s: float = 3600.0
    retention_s: float = 30 * 86_400.0
    batch: int = 100
    timeout_s: float = 5.0
    name: str = "gpu-scheduler"
    version: str = ""
    prometheus: Access | None = None
    histories: Access | None = None
    file: str = ""

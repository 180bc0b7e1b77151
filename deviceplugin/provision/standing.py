"""How each GPU stands to its layout, as people, metrics and the log are shown it; no effects but
the log of what changed."""

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from typing import Any

import structlog
from msgspec import Struct

from deviceplugin.metrics.registry import Family
from deviceplugin.provision.values import Planned

log = structlog.get_logger()

STATES = ("as-wanted", "change", "pending", "refused", "failed")


class Standing(Struct, frozen=True, kw_only=True):
    """One GPU: `state` is that of its plan, or failed."""

    gpu: str
    vendor: str
    product: str
    index: int
    wish: str
    state: str
    reason: str = ""

    @classmethod
    def of(cls, planned: Planned, owners: Sequence[str] = ()) -> "Standing":
        """By its plan; where others partition the node nothing is done."""
        if owners and planned.state in ("change", "pending"):
            text = f"{', '.join(owners)} partitions this node too: stop one of the two"
            return _standing(planned, "refused", text)
        return _standing(planned, planned.state, planned.reason)

    @classmethod
    def waiting(cls, planned: Planned, reason: str) -> "Standing":
        """Somebody holds what would have to go."""
        return _standing(planned, "pending", reason)

    @classmethod
    def failing(cls, planned: Planned, reason: str) -> "Standing":
        """It was tried, and the GPU is as before."""
        return _standing(planned, "failed", reason)


def _standing(planned: Planned, state: str, reason: str) -> Standing:
    gpu = planned.gpu
    return Standing(
        gpu=gpu.id,
        vendor=gpu.vendor,
        product=gpu.product,
        index=gpu.index,
        wish=planned.wish,
        state=state,
        reason=reason,
    )


class Table:
    """All of them, and how often GPUs were changed or could not be."""

    def __init__(self) -> None:
        self._rows: dict[str, Standing] = {}
        self.changes: Counter[tuple[str, str]] = Counter()

    def set(self, standing: Standing) -> None:
        """One GPU; what waits or is refused is logged once."""
        before = self._rows.get(standing.gpu)
        if before is not None and (before.state, standing.state) == ("failed", "change"):
            return  # it is tried again: until then it has failed
        self._rows[standing.gpu] = standing
        told = standing.state in ("pending", "refused")
        if told and (before is None or before.reason != standing.reason):
            log.warning(
                "partitions_waiting" if standing.state == "pending" else "partitions_refused",
                vendor=standing.vendor,
                device=standing.gpu,
                wish=standing.wish,
                reason=standing.reason,
            )

    def keep_only(self, gpus: Collection[str]) -> None:
        """Forget the others."""
        self._rows = {gpu: row for gpu, row in self._rows.items() if gpu in gpus}

    def count(self, vendor: str, result: str) -> None:
        """A change ended."""
        self.changes[vendor, result] += 1

    def standings(self) -> Sequence[Standing]:
        """By vendor and index; from any thread."""
        return sorted(self._rows.copy().values(), key=lambda row: (row.vendor, row.index))


def notice_lines(table: Table) -> Iterator[str]:
    """Those that are not as wanted."""
    for row in table.standings():
        if row.reason:
            yield f"partitions: {row.vendor} {row.index} ({row.gpu}): {row.state}: {row.reason}"


def document_of(table: Table) -> dict[str, Any]:
    """All of them."""
    return {
        "gpus": [
            {
                "id": row.gpu,
                "vendor": row.vendor,
                "product": row.product,
                "index": row.index,
                "wish": row.wish,
                "state": row.state,
                "reason": row.reason or None,
            }
            for row in table.standings()
        ]
    }


def families_of(table: Table) -> list[Family]:
    """GPUs by state, and changes."""
    gpus = Family(
        "deviceplugin_partition_gpus",
        "gauge",
        "GPUs that a layout is for, by how they stand to it",
        labels=["vendor", "state"],
    )
    rows = table.standings()
    for vendor in sorted({row.vendor for row in rows}):
        counts = Counter(row.state for row in rows if row.vendor == vendor)
        for state in STATES:
            gpus.add([vendor, state], counts[state])
    changes = Family(
        "deviceplugin_partition_changes_total",
        "counter",
        "Changes of partitions, by how they ended",
        labels=["vendor", "result"],
    )
    for key, count in sorted(table.changes.copy().items()):
        changes.add(list(key), count)
    return [gpus, changes]

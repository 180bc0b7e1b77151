"""What the audit log is made with."""

from collections.abc import Sequence
from typing import Any

from deviceplugin.audit.around import Around, Document
from deviceplugin.audit.service import AuditPart
from deviceplugin.config.config import Config
from deviceplugin.config.effective import effective
from deviceplugin.config.reload import differences
from deviceplugin.daemon.core import Start
from deviceplugin.daemon.sharing import SharingPart
from deviceplugin.health.service import HealthPart
from deviceplugin.resources.allocator import Allocator


def audit_part(
    start: Start, health: HealthPart, sharing: SharingPart, allocator: Allocator
) -> AuditPart:
    """The part, which hears of every allocation and refusal."""
    around = Around[Config](
        now=start.now,
        inventory=health.store.latest,
        entries=lambda: sharing.ledger.entries,
        describe=effective,
        differences=_changes,
    )
    part = AuditPart(start.config, around)
    allocator.listen("audit", part.allocated)
    allocator.listen_to_refusals("audit", part.refused)
    return part


def _changes(before: Document, after: Document) -> Sequence[dict[str, Any]]:
    return [
        {"key": change.key, "before": change.before, "after": change.after}
        for change in differences(before, after)
    ]

"""What of the audit log a report needs; it blocks, and reads the whole log."""

from collections import Counter
from pathlib import Path

from deviceplugin.audit.query import Query, records_of
from deviceplugin.audit.segments import DIRECTORY
from deviceplugin.audit.verify import verify_log
from deviceplugin.compliance.evidence import AuditFacts


def read_audit(state_dir: Path, since: str) -> AuditFacts | None:
    """None where there is no log; raises OSError."""
    directory = state_dir / DIRECTORY
    if not directory.is_dir():
        return None
    checked = verify_log(directory)
    kinds = Counter(record.kind for record, _ in records_of(directory, Query(since=since)))
    return AuditFacts(
        records=checked.records,
        lost=checked.lost,
        last=checked.last.digest,
        problems=tuple(checked.problems),
        kinds=kinds,
    )

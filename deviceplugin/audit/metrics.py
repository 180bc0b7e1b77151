"""Metrics of the audit log."""

from collections.abc import Iterator

from deviceplugin.audit.writer import Writer
from deviceplugin.metrics.registry import Family


def series_of(writer: Writer) -> Iterator[Family]:
    """How much was recorded, is missing, and is kept."""
    counts = writer.counts
    for name, kind, text, value in (
        ("records_total", "counter", "Records of the audit log", counts.recorded),
        ("lost_total", "counter", "Records that the audit log does not have", counts.lost),
        ("size_bytes", "gauge", "Size of the audit log", writer.size_bytes),
        ("failing", "gauge", "1 while the audit log cannot be written", bool(writer.failing)),
    ):
        family = Family(f"deviceplugin_audit_{name}", kind, text)  # type: ignore[arg-type]  # of the table
        family.add((), float(value))
        yield family

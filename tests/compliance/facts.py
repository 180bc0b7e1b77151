"""What was looked at on a node, for reports in tests."""

from typing import Any

from msgspec.structs import replace

from deviceplugin.compliance.evidence import AuditFacts, Facts

DISCOVER = {
    "vendors": [{"name": "nvidia", "driver_version": "575.57.08"}],
    "devices": [
        {"id": "GPU-1", "parent": None, "health": "Healthy", "attributes": {}},
        {
            "id": "GPU-2",
            "parent": None,
            "health": "Unhealthy",
            "attributes": {"confidential_computing": "on"},
        },
    ],
    "sharing": {"nvidia.com/gpu": {"isolation": "hardware"}},
}
CHECKS = [
    {"check": "processes", "subject": "GPU-1", "verdict": "pass", "value": "1 processes"},
    {"check": "processes", "subject": "GPU-2", "verdict": "pass", "value": "1 processes"},
    {"check": "host_clock", "subject": "node", "verdict": "pass", "value": "synchronised"},
    {"check": "driver", "subject": "nvidia", "verdict": "skipped", "value": "<not> & told"},
]
LOG = AuditFacts(
    records=12,
    last="ab" * 32,
    kinds={"allocation.granted": 3, "allocation.refused": 1, "configuration.changed": 2},
)
FACTS = Facts(
    node="node-1",
    taken_at=1_767_225_600.0,
    since="2025-12-31T00:00:00.000000Z",
    version="0.1.0",
    configuration={"audit": {"enabled": True}},
    diagnosis={"checks": CHECKS},
    discover=DISCOVER,
    audit=LOG,
    retention="7y",
)


def with_check(check: str, verdict: str) -> Facts:
    """The same node, on which one check ends so."""
    checks: list[dict[str, Any]] = [
        {**one, "verdict": verdict} if one["check"] == check else one for one in CHECKS
    ]
    return replace(FACTS, diagnosis={"checks": checks})

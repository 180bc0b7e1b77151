"""Sections about isolation, access, encryption and compliance; pure."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, ClassVar, Literal

from msgspec import Meta, field

from deviceplugin.documents.access import AccessControl, Bypass
from deviceplugin.documents.told import (
    KEPT,
    ON,
    Telling,
    Told,
    Words,
    applied,
    checked,
    elsewhere,
    refused,
)

Kept = Annotated[
    str, Meta(pattern=r"^[1-9][0-9]{0,5} ?[hdy]$", description="a time such as 24h, 90d or 7y")
]
ReportTime = Annotated[
    str, Meta(pattern=r"^[1-9][0-9]{0,5} ?[hd]$", description="a time such as 24h or 7d")
]
StandardName = Annotated[
    str,
    Meta(
        pattern=r"^([Ss][Oo][Cc] ?2|[Ii][Ss][Oo] ?27001|[Gg][Dd][Pp][Rr]|[Hh][Ii][Pp][Aa][Aa])$",
        description="one of SOC 2, ISO 27001, GDPR, HIPAA",
    ),
]
Mechanism = Literal["memory_isolation", "compute_isolation", "network_isolation"]
_DISKS = "a device plugin encrypts no disk: the volumes' storage class does"
_WIRES = (
    "a device plugin carries none of the workloads' data: a mesh or the workload encrypts it;"
    " `metrics.certificate_file` does it for this daemon's own endpoint"
)
_MEMORY = (
    "GPU memory is encrypted by confidential computing alone, which the hypervisor and the driver"
    " switch on; a node's daemon cannot"
)
_RBAC = elsewhere("Kubernetes' RBAC: `deviceplugin render access` prints the manifests")


class SecurityIsolation(Told, frozen=True):
    """How strongly containers must be kept apart."""

    TOLD: ClassVar[Mapping[str, Telling]] = MappingProxyType(
        {
            "enabled": ON,
            "level": applied(
                "the key isolation, where it is not given: resources with weaker isolation are not"
                " offered"
            ),
            "mechanisms": checked(
                "memory and compute: held against the isolation of each resource; network: of a"
                " NetworkPolicy, which a device plugin has no part in"
            ),
        }
    )

    enabled: bool = True
    level: Literal["none", "memory", "process", "hardware"] = "hardware"
    mechanisms: tuple[Mechanism, ...] = ()


class Encryption(Told, frozen=True):
    """Encryption of GPU memory."""

    TOLD: ClassVar[Mapping[str, Telling]] = MappingProxyType(
        {"enabled": refused(_MEMORY), "algorithm": KEPT, "key_management": KEPT}
    )

    enabled: bool = False
    algorithm: str | None = None
    key_management: Literal["hardware", "software", "kms"] | None = None


class Security(Told, frozen=True):
    """The section `security`: settings, and practices of that name."""

    TOLD: ClassVar[Mapping[str, Telling]] = MappingProxyType(
        {
            "access_control": checked(
                "as a practice: held against the account of the daemon; `deviceplugin render"
                " access` prints the manifests of roles"
            ),
            "encryption": checked(
                f"as a practice: GPU memory: held against confidential computing; {_DISKS}"
            ),
            "audit_logging": applied(
                "the key audit.enabled, where it is not given; the API server audits what people do"
            ),
            "compliance": elsewhere(
                "auditors judge it; `deviceplugin compliance report` has what a node can evidence"
            ),
        }
    )

    isolation: SecurityIsolation | None = None
    access_control: AccessControl | Literal["rbac"] | None = None
    encryption: Encryption | Literal["enabled", "disabled"] | None = None
    audit_logging: Literal["enabled", "disabled"] | None = None
    compliance: Literal["enforced", "reported"] | None = None
    bypass: Bypass | None = None


class DataEncryption(Told, frozen=True):
    """Encryption of data, wherever it is."""

    TOLD: ClassVar[Mapping[str, Telling]] = MappingProxyType(
        {
            "at_rest": refused(_DISKS),
            "in_transit": refused(_WIRES),
            "in_use": refused(_MEMORY),
        }
    )

    at_rest: bool = False
    in_transit: bool = False
    in_use: bool = False
    algorithm: str | None = None


class DataAccess(Told, frozen=True):
    """Who may use data."""

    TOLD: ClassVar[Mapping[str, Telling]] = MappingProxyType(
        {
            "enabled": ON,
            "policy": elsewhere("the cluster's mesh and NetworkPolicy"),
            "authentication": elsewhere("the API server's authentication: people log in there"),
            "authorization": _RBAC,
        }
    )

    enabled: bool = True
    policy: str | None = None
    authentication: str | None = None
    authorization: Literal["rbac"] | None = None


class Audit(Told, frozen=True):
    """What is written down."""

    TOLD: ClassVar[Mapping[str, Telling]] = MappingProxyType(
        {
            "enabled": applied("the key audit.enabled, where it is not given"),
            "events": applied(
                "gpu_access: allocations, refusals and releases are records of the audit log; the"
                " others happen inside containers, where no device plugin looks"
            ),
            "retention": applied("the key audit.retention, where it is not given"),
        }
    )

    enabled: bool = True
    events: tuple[Literal["gpu_access", "memory_access", "compute_access", "data_access"], ...] = ()
    retention: Kept | None = None


class DataProtection(Told, frozen=True):
    """The section `data_protection`."""

    encryption: DataEncryption | None = None
    access_control: DataAccess | None = None
    audit: Audit | None = None


class Reporting(Told, frozen=True):
    """Reports for auditors."""

    TOLD: ClassVar[Mapping[str, Telling]] = MappingProxyType(
        {
            "interval": applied("so often a report of each standard is written, at least 1h apart"),
            "format": applied("of the reports in compliance/ of the state directory, beside JSON"),
            "recipients": elsewhere("no mail leaves a node: whoever collects the files sends them"),
        }
    )

    interval: ReportTime | None = None
    form: Literal["pdf", "json", "html"] = field(default="json", name="format")
    recipients: Words = ()


class Violation(Told, frozen=True):
    """What is told where something violates a control."""

    OTHERS: ClassVar[Telling] = applied(
        "a log event and deviceplugin_compliance_violations while a report finds a violation"
    )

    name: str
    condition: Literal["violation_detected"]
    severity: Literal["info", "warning", "critical"] = "warning"


class ComplianceMonitoring(Told, frozen=True):
    """Watching compliance."""

    TOLD: ClassVar[Mapping[str, Telling]] = MappingProxyType({"enabled": ON})

    enabled: bool = True
    alerts: tuple[Violation, ...] = ()
    reporting: Reporting | None = None


class Compliance(Told, frozen=True):
    """The section `compliance`."""

    TOLD: ClassVar[Mapping[str, Telling]] = MappingProxyType(
        {
            "standards": applied(
                "a report of each, of what the node can evidence: with `monitoring` regularly, else"
                " by `deviceplugin compliance report`; auditors certify, a daemon never does"
            ),
            "controls": applied("the reports are about these; empty, about all"),
        }
    )

    standards: tuple[StandardName, ...] = ()
    controls: tuple[
        Literal["access_control", "data_encryption", "audit_logging", "incident_response"], ...
    ] = ()
    monitoring: ComplianceMonitoring | None = None

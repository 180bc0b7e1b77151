"""The controls of each standard that a GPU node has evidence for; pure.

Identifiers are those of the Trust Services Criteria 2017 (points of focus 2022), ISO/IEC 27001:2022
Annex A, Regulation (EU) 2016/679 and 45 CFR part 164. Titles are ours: the licensed texts count.
"""

from collections.abc import Mapping, Sequence

from msgspec import Struct

ACCESS, ENCRYPTION, RESIDUAL, AUDIT = "access", "encryption", "residual_data", "audit"
INTEGRITY, VULNERABILITIES = "integrity", "vulnerabilities"
INCIDENTS, AVAILABILITY = "incidents", "availability"

# The themes of a word of `compliance.controls`.
THEMES: Mapping[str, Sequence[str]] = {
    "access_control": (ACCESS,),
    "data_encryption": (ENCRYPTION, RESIDUAL),
    "audit_logging": (AUDIT, INTEGRITY),
    "incident_response": (INCIDENTS, VULNERABILITIES, AVAILABILITY),
}


class Control(Struct, frozen=True):
    """A control by its id, and what of a node it is about."""

    id: str
    title: str
    themes: tuple[str, ...]


class Standard(Struct, frozen=True):
    """A standard by the name that people know."""

    title: str
    controls: tuple[Control, ...]


def _control(control: str, title: str, *themes: str) -> Control:
    return Control(control, title, themes)


STANDARDS: Mapping[str, Standard] = {
    "soc2": Standard(
        "SOC 2 (Trust Services Criteria 2017)",
        (
            _control("CC6.1", "Logical access to information assets is restricted", ACCESS),
            _control("CC6.2", "Access is granted to authorised users", ACCESS),
            _control("CC6.3", "Access follows roles and least privilege", ACCESS),
            _control("CC6.5", "Data is gone before an asset is given away", RESIDUAL),
            _control("CC6.7", "Data in transit is protected", ENCRYPTION),
            _control(
                "CC7.1", "Changes and vulnerabilities are detected", INTEGRITY, VULNERABILITIES
            ),
            _control("CC7.2", "Systems are monitored for anomalies", AUDIT, INCIDENTS),
            _control("CC7.3", "Security events are evaluated", AUDIT, INCIDENTS),
            _control("CC7.4", "Incidents are responded to", INCIDENTS),
            _control("CC7.5", "Recovery from incidents", INCIDENTS),
            _control("CC8.1", "Changes are authorised and recorded", INTEGRITY),
            _control("A1.1", "Capacity is monitored", AVAILABILITY),
            _control("A1.2", "Recovery and redundancy", AVAILABILITY),
        ),
    ),
    "iso27001": Standard(
        "ISO/IEC 27001:2022, Annex A",
        (
            _control("A.5.15", "Access control", ACCESS),
            _control("A.5.18", "Access rights", ACCESS),
            _control("A.8.2", "Privileged access rights", ACCESS),
            _control("A.8.3", "Information access restriction", ACCESS),
            _control("A.5.24", "Planning for incidents", INCIDENTS),
            _control("A.5.28", "Collection of evidence", AUDIT),
            _control("A.6.8", "Reporting of events", INCIDENTS),
            _control("A.7.14", "Disposal or reuse of equipment", RESIDUAL),
            _control("A.8.6", "Capacity management", AVAILABILITY),
            _control("A.8.8", "Technical vulnerabilities", VULNERABILITIES),
            _control("A.8.9", "Configuration management", INTEGRITY),
            _control("A.8.10", "Deletion of information", RESIDUAL),
            _control("A.8.14", "Redundancy", AVAILABILITY),
            _control("A.8.15", "Logging", AUDIT),
            _control("A.8.16", "Monitoring", AUDIT, INCIDENTS),
            _control("A.8.17", "Clock synchronisation", AUDIT),
            _control("A.8.19", "Installation of software", INTEGRITY),
            _control("A.8.24", "Use of cryptography", ENCRYPTION),
            _control("A.8.32", "Change management", INTEGRITY),
        ),
    ),
    "gdpr": Standard(
        "GDPR, Regulation (EU) 2016/679",
        (
            _control("Art. 5(1)(e)", "Storage limitation", RESIDUAL, AUDIT),
            _control("Art. 5(1)(f)", "Integrity and confidentiality", ACCESS, INTEGRITY),
            _control("Art. 5(2)", "Accountability", AUDIT),
            _control("Art. 17", "Erasure", RESIDUAL),
            _control("Art. 25", "Data protection by design and by default", ACCESS),
            _control("Art. 30", "Records of processing activities", AUDIT),
            _control("Art. 32(1)(a)", "Encryption", ENCRYPTION),
            _control(
                "Art. 32(1)(b)",
                "Confidentiality, availability and resilience",
                ACCESS,
                AVAILABILITY,
            ),
            _control("Art. 32(1)(c)", "Restoring availability after an incident", AVAILABILITY),
            _control("Art. 32(1)(d)", "Regular testing of measures", VULNERABILITIES, AUDIT),
            _control("Art. 33", "Notification of a breach within 72 hours", INCIDENTS),
            _control("Art. 34", "Communication to the data subject", INCIDENTS),
        ),
    ),
    "hipaa": Standard(
        "HIPAA Security Rule, 45 CFR part 164",
        (
            _control("164.308(a)(1)(ii)(A)", "Risk analysis", VULNERABILITIES),
            _control("164.308(a)(1)(ii)(D)", "Review of system activity", AUDIT),
            _control("164.308(a)(4)", "Management of access", ACCESS),
            _control("164.308(a)(6)(ii)", "Response and reporting", INCIDENTS),
            _control("164.308(a)(7)", "Contingency plan", AVAILABILITY),
            _control("164.310(d)(2)(i)", "Disposal", RESIDUAL),
            _control("164.310(d)(2)(ii)", "Reuse of media", RESIDUAL),
            _control("164.312(a)(1)", "Access control", ACCESS),
            _control("164.312(a)(2)(i)", "Unique user identification", ACCESS),
            _control("164.312(a)(2)(iv)", "Encryption of what is stored", ENCRYPTION),
            _control("164.312(b)", "Audit controls", AUDIT),
            _control("164.312(c)(1)", "Integrity", INTEGRITY),
            _control("164.312(e)(1)", "Security of transmission", ENCRYPTION),
        ),
    ),
}


def standard_of(name: str) -> str:
    """The key of a standard however it is written: `SOC 2` is `soc2`."""
    return "".join(letter for letter in name.lower() if letter.isalnum())


def themes_of(words: Sequence[str]) -> frozenset[str]:
    """The themes of these words; of none, all."""
    return frozenset(theme for word in words or THEMES for theme in THEMES[word])

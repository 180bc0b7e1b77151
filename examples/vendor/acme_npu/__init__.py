"""Acme NPUs: the vendor module that the entry point `acme` names.

Cheap to import: the daemon loads it on every node, also where there is no NPU.
"""

from acme_npu.section import NAME, AcmeSection
from acme_npu.vendor import AcmeVendor
from deviceplugin.api import Host, Sections

__all__ = ["CONTRACT", "NAME", "SECTIONS", "create"]

CONTRACT = 1  # the number of the contract that this package was written for
SECTIONS = {NAME: AcmeSection}


def create(host: Host, sections: Sections) -> AcmeVendor:
    """Make the vendor; looks at nothing yet."""
    section = sections[NAME]
    if not isinstance(section, AcmeSection):  # not an assert: the image runs without them
        raise TypeError(f"section {NAME} is a {type(section).__name__}")
    return AcmeVendor(host, section)

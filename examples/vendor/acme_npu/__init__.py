"""Acme NPUs: the vendor module that the entry point `acme` names.

Cheap to import: the daemon loads it on every node, also where there is no NPU.
"""

from collections.abc import Mapping

from acme_npu.section import NAME, AcmeSection
from acme_npu.sharing import CORES, METHOD, AcmePart
from acme_npu.vendor import AcmeVendor
from deviceplugin.api import Host, Sections, SharingMethod

__all__ = ["CONTRACT", "NAME", "SECTIONS", "SHARE_VARIABLES", "SHARING", "create"]

CONTRACT = 1  # the number of the contract that this package was written for
SECTIONS = {NAME: AcmeSection}
SHARING: Mapping[str, SharingMethod] = {METHOD: AcmePart()}
SHARE_VARIABLES = (CORES,)


def create(host: Host, sections: Sections) -> AcmeVendor:
    """Make the vendor; looks at nothing yet."""
    section = sections[NAME]
    if not isinstance(section, AcmeSection):  # not an assert: the image runs without them
        raise TypeError(f"section {NAME} is a {type(section).__name__}")
    return AcmeVendor(host, section)

"""The section `acme` of the configuration."""

from deviceplugin.api import Scheduling, Section

NAME = "acme"


class AcmeSection(Section, frozen=True):
    """What an operator may say of NPUs.

    `resource` is the name after the slash, `cdi` whether containers get CDI names beside device
    nodes, `scheduling` how NPUs are chosen: by the package's own policy, which follows the ring.
    """

    resource: str = "npu"
    cdi: bool = False
    scheduling: Scheduling = Scheduling(policy="acme_ring")

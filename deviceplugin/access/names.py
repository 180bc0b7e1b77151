"""The names under which GPUs are asked for; pure."""

from collections.abc import Iterable

# The domains of GPUs' extended resources: ours, and that of Intel's own plugin.
DOMAINS = ("nvidia.com", "amd.com", "intel.com", "gpu.intel.com")
# A device of a class, asked for as an extended resource (Kubernetes 1.34, DRAExtendedResource).
BY_CLASS = "deviceclass.resource.kubernetes.io"
CLASSES_GROUP, CLASSES = "resource.k8s.io", "deviceclasses"
# Network plugins have names in the same domains by their defaults: functions of network cards.
_OTHERS = r"^(intel\.com/intel_|(nvidia|intel)\.com/([-a-z0-9_.]*(sriov|netdevice|hostdev|rdma)))"


def split(name: str) -> tuple[str, str]:
    """Domain and name of an extended resource."""
    domain, _, resource = name.partition("/")
    return domain, resource


def held_domains(resources: Iterable[str]) -> tuple[str, ...]:
    """Ours, and those that roles name."""
    named = (split(name)[0] for name in resources if "/" in name)
    return tuple(dict.fromkeys((*DOMAINS, *named)))


def held_pattern(domains: Iterable[str]) -> str:
    """A regular expression (RE2) for names of extended resources that are GPUs'."""
    own = "|".join(domain.replace(".", r"\.") for domain in domains)
    return rf"^(({own})/|{BY_CLASS.replace('.', chr(92) + '.')}/(.*\.)?({own})$)"


def others_pattern() -> str:
    """Of those, what is none."""
    return _OTHERS


def class_pattern(domains: Iterable[str], classes: Iterable[str]) -> str:
    """A regular expression for names of DeviceClasses that are GPUs': of a vendor's domain, or
    those that roles name."""
    own = "|".join(domain.replace(".", r"\.") for domain in domains)
    named = "".join(f"|^{name.replace('.', chr(92) + '.')}$" for name in classes)
    return rf"^(.*\.)?({own})$" + named

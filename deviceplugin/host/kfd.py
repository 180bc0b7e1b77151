"""Where the kernel's KFD (AMD's compute driver) shows what it has."""

TOPOLOGY = "/sys/class/kfd/kfd/topology"
KFD_NODE = "/dev/kfd"

"""A /proc of processes that have nodes open, below a directory."""

from pathlib import Path

UID = "0f6a1c7e-0000-4000-8000-00000000000a"
ID = "ab" * 32
IN_POD = f"0::/kubepods.slice/kubepods-pod{UID.replace('-', '_')}.slice/cri-containerd-{ID}.scope"
IN_DOCKER = f"0::/system.slice/docker-{ID}.scope"
ON_HOST = "0::/system.slice/nvidia-persistenced.service"


def add_process(root: Path, pid: int, cgroup: str, *nodes: str, namespace: int = 5) -> None:
    """A process with these nodes open, and a file and a socket beside them."""
    folder = root / f"proc/{pid}"
    (folder / "fd").mkdir(parents=True)
    (folder / "ns").mkdir()
    (folder / "cgroup").write_text(cgroup + "\n")
    (folder / "ns/pid").symlink_to(f"pid:[{namespace}]")
    for number, target in enumerate(("/usr/bin/python", "socket:[12]", *nodes)):
        (folder / f"fd/{number}").symlink_to(target)


def add_pod(root: Path, namespace: str, name: str, uid: str = UID) -> None:
    """What the kubelet has of its logs."""
    (root / f"var/log/pods/{namespace}_{name}_{uid}/main").mkdir(parents=True)

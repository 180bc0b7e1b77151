"""Nodes and pods as the API server has them."""

from typing import Any

Document = dict[str, Any]


def node(name: str, gpus: int = 4, *, cpu: str = "64", model: str = "H100") -> Document:
    return {
        "metadata": {"name": name, "labels": {"nvidia.com/gpu.product": model}},
        "status": {
            "allocatable": {
                "cpu": cpu,
                "memory": "512Gi",
                "nvidia.com/gpu": str(gpus),
                "example.com/share": str(gpus * 100),
            }
        },
    }


def pod(name: str, gpus: int = 0, share: int = 0, *, node: str = "", cpu: str = "1") -> Document:
    limits = {"cpu": cpu, "memory": "1Gi"}
    limits |= {"nvidia.com/gpu": str(gpus)} if gpus else {}
    limits |= {"example.com/share": str(share)} if share else {}
    return {
        "metadata": {"name": name, "namespace": "ml", "uid": f"uid-{name}"},
        "spec": {"containers": [{"resources": {"limits": limits}}], "nodeName": node},
        "status": {"phase": "Pending"},
    }

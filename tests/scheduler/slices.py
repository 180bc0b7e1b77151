"""ResourceSlices, ResourceClaims, DeviceClasses, and nodes whose GPUs only claims can have, as the
API server has them."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from deviceplugin.scheduler import claims, published
from deviceplugin.scheduler.dynamic import Change
from deviceplugin.scheduler.objects import Node, Pod, Reading
from deviceplugin.scheduler.published import DRIVERS
from deviceplugin.scheduler.state import Cluster
from tests.scheduler.objects import Document, node, pod

GOLDEN = Path(__file__).parents[1] / "dra/golden"
DRIVER, WHOLE, MIG = "gpu.nvidia.com", "gpu.nvidia.com", "mig.nvidia.com"
OF_TYPE = 'device.driver == "gpu.nvidia.com" && device.attributes["gpu.nvidia.com"].type == "{}"'
SELECTORS = {WHOLE: OF_TYPE.format("gpu"), MIG: OF_TYPE.format("mig")}


def device(number: int, *, of: str = "a", memory: str = "80Gi", group: str = "") -> Document:
    attributes = {
        "type": {"string": "gpu"},
        "uuid": {"string": f"GPU-{of}-{number}"},
        "productName": {"string": "NVIDIA H100"},
        "driverVersion": {"version": "570.86.15"},
        "resource.kubernetes.io/numaNode": {"int": number // 2},
    }
    if group:
        attributes["linkGroup"] = {"string": group}
    capacity = {"memory": {"value": memory}}
    return {"name": f"gpu-{number}", "attributes": attributes, "capacity": capacity}


def slice_of(
    name: str, devices: Sequence[Document], *, driver: str = DRIVER, **pool: int
) -> Document:
    spec = {
        "driver": driver,
        "nodeName": name,
        "pool": {"name": name, "generation": 1, "resourceSliceCount": 1, **pool},
        "devices": list(devices),
    }
    return {"metadata": {"name": f"00000-{driver}-{name}"}, "spec": spec}


def golden(name: str, of: str) -> list[Document]:
    """The slices that our driver publishes of a node, for another one."""
    specs = json.loads((GOLDEN / f"{name}.json").read_text())["specs"]
    return [
        {
            "metadata": {"name": f"{at:05}-{of}"},
            "spec": {**one, "nodeName": of, "pool": {**one["pool"], "name": of}},
        }
        for at, one in enumerate(specs)
    ]


def device_class(name: str, expression: str, resource: str = "") -> Document:
    spec: Document = {"selectors": [{"cel": {"expression": expression}}]}
    if resource:
        spec["extendedResourceName"] = resource
    return {"metadata": {"name": name}, "spec": spec}


CLASSES = [device_class(name, expression) for name, expression in SELECTORS.items()]


def claim(name: str, *selectors: str, of: str = WHOLE, got: Sequence[Any] = (), **more: Any) -> Any:
    """A claim of one request; `got` are node and device, or results as they stand."""
    exactly = {
        "deviceClassName": of,
        "selectors": [{"cel": {"expression": one}} for one in selectors],
        **{key: value for key, value in more.items() if key != "constraints"},
    }
    devices: Document = {"requests": [{"name": "gpu", "exactly": exactly}]}
    if "constraints" in more:
        devices["constraints"] = more["constraints"]
    found: Document = {
        "metadata": {"name": name, "namespace": "ml"},
        "spec": {"devices": devices},
    }
    results = [
        one if isinstance(one, dict) else {"driver": DRIVER, "pool": one[0], "device": one[1]}
        for one in got
    ]
    if results:
        found["status"] = {"allocation": {"devices": {"results": results}}}
    return found


def claiming(name: str, *names: str, node: str = "", gpus: int = 0) -> Document:
    """A pod with these claims."""
    one = pod(name, gpus=gpus, node=node)
    one["spec"]["resourceClaims"] = [{"name": key, "resourceClaimName": key} for key in names]
    return one


def bare(name: str) -> Document:
    """A node whose device plugin has nothing."""
    one = node(name, 0, model="")
    one["status"]["allocatable"] |= {"nvidia.com/gpu": "0", "example.com/share": "0"}
    return one


class Dra:
    """A cluster that is told of objects of DRA as the watches do."""

    def __init__(self, *nodes: Document, reading: Reading | None = None) -> None:
        self.cluster = Cluster(reading or Reading(), lambda: 0.0)
        self.cluster.set_nodes(msgspec.convert(nodes, list[Node]))
        self._keeping = published.Keeping(DRIVERS)
        self.classes(*CLASSES)

    def slices(self, *found: Document, change: Change = "PUT") -> None:
        kept = msgspec.convert(found, list[published.ResourceSlice])
        self.cluster.put_slices(change, [self._keeping.small(one) for one in kept])

    def claims(self, *found: Document, change: Change = "PUT") -> None:
        kept = msgspec.convert(found, list[claims.ResourceClaim])
        self.cluster.put_claims(change, [claims.small(one, DRIVERS) for one in kept])

    def classes(self, *found: Document, change: Change = "PUT") -> None:
        self.cluster.put_classes(change, msgspec.convert(found, list[claims.DeviceClass]))

    def pods(self, *found: Document) -> None:
        for one in found:
            self.cluster.put_pod(msgspec.convert(one, Pod))

    def free(self, name: str) -> list[int]:
        return self.cluster.board.nodes[name].free

    def misfit(self, name: str, wanted: Document) -> str | None:
        demand = self.cluster.demand_of(msgspec.convert(wanted, Pod))
        return self.cluster.misfit(name, demand)

    def would_get(self, name: str, wanted: Document) -> list[str] | None:
        """The devices that the pod's claims would have there; None where it costs too much."""
        demand = self.cluster.demand_of(msgspec.convert(wanted, Pod))
        cost = self.cluster.board.cost(name, demand)
        return None if cost is None else self.cluster.board.nodes[name].names_of(cost.got)

"""deploy/ with components/dra on a node of a cluster: claims, slices and what containers see."""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import yaml

from tests.e2e.cluster import ROOT, ClusterNode, KubectlError, Object, kubectl, until

_CONFIG = """
dra: {enabled: true, handover: true}
nvidia: {device_list_strategy: [cdi-cri]}
rules:
- match: {vendor: nvidia, index: [5]}  # where the node has so many, one that claims share
  offers: [{memory: {unit: 1GiB}}]
"""


def overlay(image: str, node: str) -> list[Object]:
    """deploy/ with DRA as kustomize makes it, both APIs at once, with `image`, for `node` alone."""
    with TemporaryDirectory(dir=ROOT) as made:  # kustomize takes folders by relative paths alone
        deploy = os.path.relpath(ROOT / "deploy", made)
        document = {
            "apiVersion": "kustomize.config.k8s.io/v1beta1",
            "kind": "Kustomization",
            "resources": [deploy],
            "components": [f"{deploy}/components/account", f"{deploy}/components/dra"],
        }
        (Path(made) / "kustomization.yaml").write_text(yaml.safe_dump(document))
        objects = list(yaml.safe_load_all(kubectl("kustomize", made)))
    for item in objects:
        if item["kind"] == "DaemonSet":
            pod = item["spec"]["template"]["spec"]
            pod["nodeSelector"] = {"kubernetes.io/hostname": node}
            pod["containers"][0]["image"] = image
        if item["kind"] == "ConfigMap":
            item["data"]["dra.yaml"] = _CONFIG
    return objects


class DraNode:
    """The node's claims and slices."""

    def __init__(self, node: ClusterNode) -> None:
        self.node = node

    def slices(self) -> list[Object]:
        found = json.loads(kubectl("get", "resourceslices", "-o", "json"))["items"]
        return [one for one in found if one["spec"].get("nodeName") == self.node.name]

    def devices(self, driver: str) -> Mapping[str, Object]:
        """The devices of a driver by name, as the API server has them."""
        specs = [one["spec"] for one in self.slices() if one["spec"]["driver"] == driver]
        newest = max((spec["pool"]["generation"] for spec in specs), default=0)
        return {
            device["name"]: device
            for spec in specs
            if spec["pool"]["generation"] == newest
            for device in spec.get("devices", ())
        }

    def shown(self) -> Mapping[tuple[str, str], Object]:
        """What `deviceplugin dra slices` says in the daemon's pod, by driver and device."""
        document = json.loads(self.node.daemon("dra", "slices", "--format", "json"))
        return {
            (driver["driver"], device["name"]): device
            for driver in document["drivers"]
            for device in driver["devices"]
        }

    def allocated(self, pod: str, namespace: str = "default") -> list[Object]:
        """The results of all claims of a pod."""
        found = json.loads(kubectl("get", "resourceclaims", "-n", namespace, "-o", "json"))
        claims = [
            claim
            for claim in found["items"]
            if any(one["name"] == pod for one in claim.get("status", {}).get("reservedFor", ()))
        ]
        return [r for c in claims for r in c["status"]["allocation"]["devices"]["results"]]

    def nodes(self, results: list[Object]) -> set[str]:
        """The device nodes that belong to those results."""
        shown = self.shown()
        return {path for one in results for path in shown[one["driver"], one["device"]]["nodes"]}

    def others(self, results: list[Object]) -> set[str]:
        """The device nodes of the other devices of these drivers, without what is shared."""
        ours = {(one["driver"], one["device"]) for one in results}
        drivers = {driver for driver, _ in ours}
        rest = [d["nodes"] for key, d in self.shown().items() if key[0] in drivers - {""}]
        return {path for nodes in rest for path in nodes} - self.nodes(results)

    @contextmanager
    def applied(self, documents: list[Object]) -> Iterator[list[str]]:
        """Objects of an example, on this node, while the block runs; the names of its pods."""
        for item in documents:
            if item["kind"] == "Pod":
                item["spec"]["nodeSelector"] = {"kubernetes.io/hostname": self.node.name}
                for container in item["spec"]["containers"]:
                    container["image"] = self.node.pod_image
        text = yaml.safe_dump_all(documents)
        kubectl("apply", "-f", "-", text=text)
        try:
            yield [item["metadata"]["name"] for item in documents if item["kind"] == "Pod"]
        finally:
            until(lambda: not _deleted(text), "everything is deleted")

    def claiming(self, name: str, device_class: str, expression: str = "") -> list[Object]:
        """A claim of one device and a pod that has it until it is deleted."""
        selectors = [{"cel": {"expression": expression}}] if expression else []
        exactly = {"deviceClassName": device_class, "selectors": selectors}
        claim = {
            "apiVersion": "resource.k8s.io/v1",
            "kind": "ResourceClaim",
            "metadata": {"name": name},
            "spec": {"devices": {"requests": [{"name": "gpu", "exactly": exactly}]}},
        }
        pod = self.node.holding(name, {})
        pod["spec"]["resourceClaims"] = [{"name": "gpu", "resourceClaimName": name}]
        pod["spec"]["containers"][0]["resources"] = {"claims": [{"name": "gpu"}]}
        return [claim, pod]

    def seen_in(self, pod: str, namespace: str = "default") -> set[str]:
        """The character devices in a container."""
        command = ("exec", "-n", namespace, pod, "--", "find", "/dev", "-type", "c")
        return set(kubectl(*command).split())

    def kill_daemon(self) -> None:
        """SIGKILL from a pod that sees the node's processes: nobody can send it to a first process
        from inside its own namespace."""
        loop = """for p in /proc/[0-9]*; do case "$(tr '\\0' ' ' < $p/cmdline)" in
            *deviceplugin\\ ru[n]*) kill -9 ${p#/proc/};; esac; done; true"""
        killer = self.node.holding("e2e-killer", {})
        killer["spec"] |= {"hostPID": True, "restartPolicy": "Never"}
        killer["spec"]["containers"][0] |= {
            "command": ["sh", "-c", loop],
            "securityContext": {"privileged": True},
        }
        with self.node.pod(killer) as name:
            until(lambda: self.node.pod_status(name)["phase"] == "Succeeded", "it has been killed")


def _deleted(text: str) -> bool:
    """Whether anything was still there."""
    try:
        command = ("delete", "--ignore-not-found", "--wait=true", "--grace-period=1")
        return bool(kubectl(*command, "-f", "-", text=text).strip())
    except KubectlError:
        return True

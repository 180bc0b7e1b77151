"""A node of a real cluster through kubectl: what is applied to it, read from it, run on it."""

import json
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import yaml
from msgspec import Struct

ROOT = Path(__file__).parents[2]
NAMESPACE, NAME = "kube-system", "deviceplugin"
VENDORS = ("nvidia.com/", "amd.com/", "intel.com/")
WAIT_S = 180.0
_POLL_S = 0.5
Object = dict[str, Any]
T = TypeVar("T")


class KubectlError(RuntimeError):
    """kubectl ended with an error."""


def until(condition: Callable[[], T], what: str) -> T:
    """Wait until `condition` returns something true, and return it; raises TimeoutError.

    An error of kubectl is "not yet": a kubelet that just started knows no pods.
    """
    end_s = time.monotonic() + WAIT_S
    last: object = None
    while time.monotonic() < end_s:
        try:
            if value := condition():
                return value
        except KubectlError as error:
            last = error
        time.sleep(_POLL_S)
    raise TimeoutError(f"not within {WAIT_S:.0f} s: {what}; last error: {last}")


def kubectl(*arguments: str, text: str = "") -> str:
    """What `kubectl …` prints; raises KubectlError."""
    done = subprocess.run(
        ["kubectl", *arguments],  # noqa: S607  # the one on PATH, as a person would
        input=text,
        capture_output=True,
        text=True,
        timeout=WAIT_S,
        check=False,
    )
    if done.returncode:
        raise KubectlError(f"kubectl {' '.join(arguments)}: {done.stderr}")
    return done.stdout


def manifests(image: str, node: str) -> list[Object]:
    """deploy/ as kustomize makes it, with `image`, for `node` alone."""
    objects = list(yaml.safe_load_all(kubectl("kustomize", str(ROOT / "deploy"))))
    for item in objects:
        if item["kind"] == "DaemonSet":
            pod = item["spec"]["template"]["spec"]
            pod["nodeSelector"] = {"kubernetes.io/hostname": node}
            pod["containers"][0]["image"] = image
    return objects


class ClusterNode(Struct, frozen=True):
    """The node under test; `pod_image` has a shell, for pods that are looked into."""

    name: str
    pod_image: str

    def status(self) -> Object:
        """The Node's status."""
        status: Object = self._get("node", self.name)["status"]
        return status

    def resources(self, kind: str) -> Mapping[str, int]:
        """The GPU resources of `capacity` or `allocatable` that the node has any of."""
        counts = {n: c for n, c in self.status()[kind].items() if n.startswith(VENDORS)}
        return {name: int(count) for name, count in counts.items() if int(count)}

    def daemon_pods(self) -> list[Object]:
        """The daemon's pods on the node, those of an earlier rollout too."""
        selector = ("-l", f"app.kubernetes.io/name={NAME}")
        found = json.loads(kubectl("get", "pods", "-n", NAMESPACE, *selector, "-o", "json"))
        return [pod for pod in found["items"] if pod["spec"].get("nodeName") == self.name]

    def ready_daemon(self) -> str:
        """The name of the daemon's ready pod, "" if there is none."""
        for pod in self.daemon_pods():
            conditions = pod["status"].get("conditions", ())
            if any(c["type"] == "Ready" and c["status"] == "True" for c in conditions):
                return str(pod["metadata"]["name"])
        return ""

    def daemon(self, *command: str) -> str:
        """What `deviceplugin …` prints in the daemon's container."""
        return kubectl("exec", "-n", NAMESPACE, self.ready_daemon(), "--", NAME, *command)

    def config(self) -> str:
        """The daemon's configuration, as its ConfigMap has it."""
        found = json.loads(kubectl("get", "configmap", NAME, "-n", NAMESPACE, "-o", "json"))
        return str(found["data"]["config.yaml"])

    def configure(self, text: str) -> None:
        """Another configuration, in a daemon that is started again: the kubelet takes a minute to
        change a mounted ConfigMap. Nothing happens if it is the one that the daemon has."""
        if self.config() == text:
            return
        patch = json.dumps({"data": {"config.yaml": text}})
        kubectl("patch", "configmap", NAME, "-n", NAMESPACE, "--type=merge", "-p", patch)
        before = self.ready_daemon()
        kubectl("delete", "pod", "-n", NAMESPACE, before, "--wait=true")
        until(lambda: self.ready_daemon() not in ("", before), "another daemon is ready")
        until(self.agrees, "all that the daemon lists can be allocated")

    def agrees(self) -> bool:
        """Whether what the daemon lists can be allocated; capacity that is gone stays 5 minutes."""
        report = json.loads(self.daemon("discover", "--format", "json"))
        healthy = {
            name: sum(entry["health"] == "Healthy" for entry in entries)
            for name, entries in report["resources"].items()
        }
        return self.resources("allocatable") == {n: c for n, c in healthy.items() if c}

    def registrations(self, resource: str) -> int:
        """How often the daemon that runs now registered a resource."""
        lines = kubectl("logs", "-n", NAMESPACE, self.ready_daemon()).splitlines()
        events = [json.loads(line) for line in lines if line.startswith("{")]
        return sum(e["event"] == "registered" and e["resource"] == resource for e in events)

    @contextmanager
    def pod(self, manifest: Object) -> Iterator[str]:
        """Run a pod on the node while the block runs; its name."""
        name = manifest["metadata"]["name"]
        manifest["spec"]["nodeSelector"] = {"kubernetes.io/hostname": self.name}
        kubectl("apply", "-f", "-", text=json.dumps(manifest))
        try:
            yield name
        finally:
            kubectl("delete", "pod", name, "--grace-period=1", "--wait=true")

    def holding(self, name: str, limits: Mapping[str, int], *, init: bool = False) -> Object:
        """A pod that holds devices until it is deleted, after an init container if asked for."""
        container = {
            "name": "main",
            "image": self.pod_image,
            "imagePullPolicy": "IfNotPresent",
            "command": ["sh", "-c", "sleep 1000000"],
            "resources": {"limits": dict(limits)},
        }
        first = container | {"name": "init", "command": ["sh", "-c", "env"]}
        spec = {"containers": [container], "initContainers": [first] if init else []}
        return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}

    def neighbour(self, name: str) -> Object:
        """A pod that takes all CPUs as far as its request lets it."""
        manifest = self.holding(name, {})
        (container,) = manifest["spec"]["containers"]
        loops = "for i in 1 2 3 4 5 6; do while :; do :; done & done; wait"
        container["command"] = ["sh", "-c", loops]
        container["resources"] = {"requests": {"cpu": "1"}}
        return manifest

    def pod_status(self, name: str) -> Object:
        """A pod's status."""
        status: Object = self._get("pod", name)["status"]
        return status

    def main(self, name: str) -> Object:
        """The status of container `main`, once it runs."""

        def running() -> Object | None:
            status = self.pod_status(name)
            assert status["phase"] != "Failed", status
            found: list[Object] = status.get("containerStatuses", [])
            return next((c for c in found if "running" in c["state"]), None)

        return until(running, f"{name} runs") or {}

    def health(self, name: str) -> Mapping[str, str]:
        """allocatedResourcesStatus of container `main`: health by device id."""
        (status,) = self.pod_status(name)["containerStatuses"]
        entries = status.get("allocatedResourcesStatus", ())
        return {r["resourceID"]: r["health"] for e in entries for r in e.get("resources", ())}

    def _get(self, kind: str, name: str) -> Object:
        found: Object = json.loads(kubectl("get", kind, name, "-o", "json"))
        return found

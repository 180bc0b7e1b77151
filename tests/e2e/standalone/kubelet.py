"""A real kubelet and containerd in a sandbox, without a cluster: static pods are all it runs."""

import json
import socket
import ssl
import time
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import grpc.aio
from msgspec import Struct
from prometheus_client.parser import text_string_to_metric_families

from deviceplugin.pb import podresources_v1_pb2 as podresources
from deviceplugin.pb import podresources_v1_pb2_grpc as podresources_grpc
from tests.e2e.standalone.image import IMAGE
from tests.e2e.standalone.sandbox import Sandbox, Service

NODE_NAME = "node-1"
_KUBELET = """
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
failCgroupV1: false
cgroupDriver: cgroupfs
cgroupRoot: /{cgroup}
cgroupsPerQOS: false
enforceNodeAllocatable: []
failSwapOn: false
evictionHard: {{}}
authentication: {{anonymous: {{enabled: true}}, webhook: {{enabled: false}}}}
authorization: {{mode: AlwaysAllow}}
containerRuntimeEndpoint: unix://{root}/c/containerd.sock
staticPodPath: {root}/m
fileCheckFrequency: 2s
address: 127.0.0.1
port: {port}
healthzPort: 0
makeIPTablesUtilChains: false
podLogsDir: {root}/logs
logging: {{format: json}}
"""
# Version 2 is read by containerd 1.6 and converted by 2.x. The sandbox has no right over the
# machine's oom scores, and pods use the host's network: a CNI plugin is named and never run.
_CONTAINERD = """
version = 2
root = "{root}/c/root"
state = "{root}/c/state"
[grpc]
  address = "{root}/c/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{image}"
  restrict_oom_score_adj = true
  disable_tcp_service = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    conf_dir = "{root}/c/cni"
    bin_dir = "{root}/c/cni"
"""
_CNI = {"cniVersion": "0.4.0", "name": "none", "plugins": [{"type": "loopback"}]}


class Containerd:
    """containerd with directories of its own; `ctr` and runc are those on PATH."""

    def __init__(self, sandbox: Sandbox, root: Path, binary: str, more: str = "") -> None:
        """Start it with `more` of its configuration, without waiting for anything."""
        self._sandbox, self._socket = sandbox, root / "c" / "containerd.sock"
        (root / "c" / "cni").mkdir(parents=True)
        (root / "c" / "cni" / "1.conflist").write_text(json.dumps(_CNI))
        config = root / "c" / "config.toml"
        config.write_text(_CONTAINERD.format(root=root, image=IMAGE) + more)
        self.service = sandbox.spawn(root / "containerd.log", binary, "--config", str(config))

    def listens(self) -> bool:
        """Whether it answers."""
        with socket.socket(socket.AF_UNIX) as probe:
            return probe.connect_ex(str(self._socket)) == 0

    def ctr(self, *arguments: str) -> str:
        """What `ctr` prints, in the kubelet's namespace of containerd."""
        address = ("--address", str(self._socket), "--namespace", "k8s.io")
        return self._sandbox.run("ctr", *address, *arguments)

    def containers(self) -> list[str]:
        """The ids of all that run, pods' own among them; nothing where it has ended."""
        return self.ctr("containers", "list", "-q").split() if self.listens() else []


class Rejection(Struct, frozen=True):
    """A pod that was not admitted, and how long after the kubelet's socket was there."""

    pod: str
    message: str
    after_s: float


class Kubelet:
    """The kubelet's process, its log, its HTTP endpoint and its PodResources API."""

    def __init__(self, sandbox: Sandbox, root: Path, binary: str, cgroup: str) -> None:
        self._sandbox, self._root, self._binary = sandbox, root, binary
        self.directory = root / "k"
        self.manifests = root / "m"
        self.manifests.mkdir()
        self._port = _free_port()
        self._config = root / "kubelet.yaml"
        self._config.write_text(_KUBELET.format(root=root, port=self._port, cgroup=cgroup))
        self.service: Service | None = None

    def start(self) -> None:
        """Start it, without waiting for anything."""
        flags = (f"--config={self._config}", f"--hostname-override={NODE_NAME}")
        log = self._root / "kubelet.log"
        self._started_s = time.time()
        self.service = self._sandbox.spawn(log, self._binary, *flags)

    def pods(self) -> dict[str, dict[str, Any]]:
        """All pods by their name in the manifest, as /pods has them; none while it starts."""
        try:
            items = json.loads(self._http("/pods"))["items"] or []
        except OSError:
            return {}
        return {pod["metadata"]["name"].removesuffix(f"-{NODE_NAME}"): pod for pod in items}

    def metric(self, name: str, label: str) -> Mapping[str, float]:
        """The samples of a metric by one label, none where there are none yet."""
        try:
            text = self._http("/metrics")
        except OSError:
            return {}
        return {
            sample.labels[label]: sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == name
        }

    async def allocatable(self) -> dict[str, set[str]]:
        """GetAllocatableResources: the healthy devices of each resource; none while it starts."""
        socket_path = self.directory / "pod-resources" / "kubelet.sock"
        async with grpc.aio.insecure_channel(f"unix:{socket_path}") as channel:
            lister = podresources_grpc.PodResourcesListerStub(channel)
            try:
                answer = await lister.GetAllocatableResources(
                    podresources.AllocatableResourcesRequest(), timeout=5
                )
            except grpc.aio.AioRpcError as error:
                if error.code() is grpc.StatusCode.UNAVAILABLE:
                    return {}
                raise
        found: dict[str, set[str]] = {}
        for devices in answer.devices:
            found.setdefault(devices.resource_name, set()).update(devices.device_ids)
        return found

    def rejections(self) -> list[Rejection]:
        """The pods that the kubelet that runs now did not admit."""
        socket_path = self.directory / "device-plugins" / "kubelet.sock"
        made_s = socket_path.stat().st_mtime
        return [
            Rejection(entry["pod"], entry["message"], entry["ts"] / 1000 - made_s)
            for entry in self._log_entries()
            if entry["msg"] == "Pod admission denied" and entry["ts"] / 1000 > self._started_s
        ]

    def _log_entries(self) -> Iterator[dict[str, Any]]:
        for line in (self._root / "kubelet.log").read_text().splitlines():
            if line.startswith("{"):
                yield json.loads(line)

    def _http(self, path: str) -> str:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = (
            False,
            ssl.CERT_NONE,
        )  # a certificate of its own
        url = f"https://127.0.0.1:{self._port}{path}"
        with urllib.request.urlopen(url, timeout=10, context=context) as answer:
            return str(answer.read(), "utf-8")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])

"""Keys of other programs' documents, so that a misspelt one is found; pure.

No whole schema: a key that resembles none of these may be newer than this list and is passed over.
"""

import difflib
from collections.abc import Iterator, Mapping

_OBJECT = (
    "apiVersion kind metadata name namespace labels annotations uid resourceVersion generateName"
    " ownerReferences finalizers creationTimestamp spec status data binaryData stringData immutable"
    " items type"
)
_POD = (
    "containers initContainers ephemeralContainers volumes restartPolicy nodeSelector nodeName"
    " serviceAccountName serviceAccount automountServiceAccountToken hostNetwork hostPID hostIPC"
    " securityContext imagePullSecrets hostname subdomain affinity schedulerName tolerations"
    " hostAliases priorityClassName priority dnsConfig dnsPolicy readinessGates runtimeClassName"
    " enableServiceLinks preemptionPolicy overhead topologySpreadConstraints resourceClaims"
    " terminationGracePeriodSeconds activeDeadlineSeconds shareProcessNamespace hostUsers os"
    " image command args workingDir ports envFrom env resources volumeMounts volumeDevices"
    " livenessProbe readinessProbe startupProbe lifecycle terminationMessagePath imagePullPolicy"
    " terminationMessagePolicy stdin stdinOnce tty limits requests claims value valueFrom"
    " containerPort hostPort protocol hostIP mountPath subPath subPathExpr readOnly"
    " mountPropagation hostPath path emptyDir configMap secret persistentVolumeClaim claimName"
    " projected downwardAPI sizeLimit medium optional defaultMode sources runAsNonRoot runAsUser"
    " runAsGroup fsGroup fsGroupChangePolicy supplementalGroups seccompProfile sysctls"
    " seLinuxOptions allowPrivilegeEscalation readOnlyRootFilesystem privileged capabilities add"
    " drop procMount httpGet exec tcpSocket grpc port initialDelaySeconds periodSeconds"
    " timeoutSeconds failureThreshold successThreshold key operator effect tolerationSeconds"
    " fieldRef fieldPath configMapKeyRef secretKeyRef resourceFieldRef nodeAffinity podAffinity"
    " podAntiAffinity requiredDuringSchedulingIgnoredDuringExecution nodeSelectorTerms"
    " preferredDuringSchedulingIgnoredDuringExecution matchExpressions matchLabels values weight"
    " preference replicas selector template strategy rollingUpdate maxSurge maxUnavailable"
    " updateStrategy minReadySeconds revisionHistoryLimit progressDeadlineSeconds paused"
    " serviceName volumeClaimTemplates backoffLimit completions parallelism"
)
_NODE = "taints unschedulable providerID podCIDR podCIDRs capacity allocatable conditions addresses"
_MESH = (
    "hosts gateways http tls tcp exportTo match uri prefix exact regex headers method route"
    " destination host subset number weight timeout retries attempts perTryTimeout retryOn fault"
    " delay percentage percent fixedDelay abort httpStatus rewrite redirect mirror corsPolicy"
    " routes condition pathRegex responseClasses min max isFailure isRetryable retryBudget budget"
    " retryRatio minRetriesPerSecond ttl dstOverrides authority all any not"
)
_SCHEDULER = (
    "profiles schedulerName plugins preFilter filter postFilter preScore score reserve permit"
    " preBind bind postBind queueSort multiPoint enabled disabled pluginConfig args parallelism"
    " leaderElection leaderElect clientConnection kubeconfig extenders urlPrefix filterVerb"
    " prioritizeVerb managedResources percentageOfNodesToScore podInitialBackoffSeconds"
)
_CONTAINERD = (
    "version root state imports plugins containerd runtimes runtime_type runtime_path options"
    " BinaryName SystemdCgroup Root default_runtime_name enable_cdi cdi_spec_dirs snapshotter"
    " privileged_without_host_devices pod_annotations container_annotations base_runtime_spec cni"
    " sandbox_image registry config_path grpc debug metrics timeouts required_plugins oom_score"
    " io.containerd.grpc.v1.cri io.containerd.cri.v1.runtime io.containerd.cri.v1.images"
)
_CRIO = (
    "crio runtime image network api metrics tracing runtimes default_runtime runtime_path"
    " runtime_type runtime_root monitor_path monitor_cgroup monitor_env allowed_annotations"
    " privileged_without_host_devices cdi_spec_dirs hooks_dir conmon conmon_cgroup cgroup_manager"
    " pids_limit log_level default_env decryption_keys_path platform_runtime_paths"
)
_WORDS: Mapping[str, str] = {"containerd": _CONTAINERD, "CRI-O": _CRIO}
_ALL = frozenset(f"{_OBJECT} {_POD} {_NODE} {_MESH} {_SCHEDULER}".split())
# Below these, keys are the user's own.
_FREE = frozenset(
    {"labels", "annotations", "matchLabels", "nodeSelector", "data", "binaryData", "stringData"}
    | {"limits", "requests", "capacity", "allocatable", "headers", "args", "runtimes"}
)
_NEAR = 0.8


def misspelt(kind: str, content: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    """Each key that is not known and resembles one that is: its path, and the nearest."""
    words = frozenset(_WORDS[kind].split()) if kind in _WORDS else _ALL
    yield from _below(content, words, "")


def _below(value: object, words: frozenset[str], path: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, list):
        for number, item in enumerate(value):
            yield from _below(item, words, f"{path}[{number}]")
    if not isinstance(value, Mapping):
        return
    for key, inner in value.items():
        full = f"{path}.{key}" if path else str(key)
        if key not in words and (near := difflib.get_close_matches(str(key), words, 1, _NEAR)):
            yield full, near[0]
        if key == "runtimes" and isinstance(inner, Mapping):
            for name, one in inner.items():
                yield from _below(one, words, f"{full}.{name}")
        elif key not in _FREE:
            yield from _below(inner, words, full)

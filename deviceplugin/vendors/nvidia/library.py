"""NVML: finding, loading and calling libnvidia-ml; the only place that knows the module pynvml.

Calls raise LibraryError with NVML's return code (nvml.h, nvmlReturn_t).
"""

import ctypes
from collections.abc import Callable, Iterable, Sequence
from typing import Any
from uuid import UUID

from msgspec import Struct

from deviceplugin.errors import LibraryError, UnavailableError
from deviceplugin.host import Host
from deviceplugin.names import id_problem, one_line
from deviceplugin.vendors.nvidia.codes import (
    FUNCTION_NOT_FOUND,
    MEANINGS,
    NO_PERMISSION,
    NOT_SUPPORTED,
    UNKNOWN,
)
from deviceplugin.vendors.nvidia.folders import FOLDERS, DriverTree, library_folders

FILE = "libnvidia-ml.so.1"
MAX_INSTANCES = 64  # of a GPU: today's drivers cut seven
# Where driver containers put the driver's file tree.
DRIVER_CONTAINER_ROOTS = ("/run/nvidia/driver",)

FABRIC_COMPLETED = 3  # nvml.h, nvmlGpuFabricState_t
_UNKNOWABLE = frozenset({NOT_SUPPORTED, FUNCTION_NOT_FOUND})


class Fabric(Struct, frozen=True, kw_only=True):
    """State (nvmlGpuFabricState_t) and status of a registration, and where it is complete the
    domain of links: `<cluster's UUID>.<clique>`."""

    state: int
    status: int
    clique: str | None = None


def _fabric_of(info: Any) -> Fabric:
    cluster, done = bytes(info.clusterUuid), (info.state, info.status) == (FABRIC_COMPLETED, 0)
    clique = f"{UUID(bytes=cluster)}.{info.cliqueId}" if done and len(cluster) == 16 else None
    return Fabric(state=int(info.state), status=int(info.status), clique=clique)


class Nvml:
    """An initialised NVML; `api` has pynvml's functions, `driver_root` is a host path."""

    def __init__(self, api: Any, driver_root: str) -> None:  # pynvml has no types
        self._api = api
        self.driver_root = driver_root

    def call(self, function: str, *arguments: Any) -> Any:
        """Call an NVML function by name; raises LibraryError."""
        try:
            return getattr(self._api, function)(*arguments)
        except self._api.NVMLError as error:
            raise LibraryError(function, error.value, _text_of(error)) from error
        except UnicodeDecodeError as error:  # pynvml decodes strictly
            return bytes(error.object)

    def ask(self, function: str, *arguments: Any) -> Any:
        """As `call`, but None where GPU or driver do not support the question."""
        try:
            return self.call(function, *arguments)
        except LibraryError as error:
            if error.code in _UNKNOWABLE:
                return None
            raise

    def text(self, function: str, *arguments: Any) -> str | None:
        """As `ask`, for the functions that give text (bytes where it is not UTF-8)."""
        value = self.ask(function, *arguments)
        text = value.decode("utf-8", "replace") if isinstance(value, bytes) else value
        return one_line(text or "") or None

    def uuid(self, handle: Any) -> str:
        """The identity of a GPU or a MIG device; raises LibraryError where it gives none."""
        function = "nvmlDeviceGetUUID"
        uuid = self.text(function, handle)
        if uuid is None or id_problem(uuid) is not None:
            raise implausible(function, f"{uuid!r:.80}, which is not a UUID")
        return uuid

    def count(self, function: str, limit: int, *arguments: Any) -> int:
        """As `call`, for a number that is counted up to: at most `limit`, else LibraryError."""
        found = int(self.call(function, *arguments))
        if found > limit:
            raise implausible(function, f"{found}, where {limit} is the most there can be")
        return found

    def field(self, handle: Any, number: int) -> int | None:
        """A field value (nvml.h, NVML_FI_*) as a number, None where it is not supported."""
        values = self.ask("nvmlDeviceGetFieldValues", handle, [number])
        if values is None or values[0].nvmlReturn != 0:
            return None
        return int(values[0].value.ullVal)

    def sram_status(self, handle: Any) -> Any:
        """The SRAM ECC error status of a GPU, None where it is not supported."""
        make = getattr(self._api, "c_nvmlEccSramErrorStatus_v1_t", None)
        if make is None:  # an older pynvml
            return None
        status = make()  # sets its own version
        answer = self.ask("nvmlDeviceGetSramEccErrorStatus", handle, ctypes.byref(status))
        return None if answer is None else status

    def fabric(self, handle: Any) -> Fabric | None:
        """A GPU's registration with the NVLink fabric (nvml.h, nvmlGpuFabricInfo_t), None where it
        is not supported."""
        make = getattr(self._api, "c_nvmlGpuFabricInfo_t", None)
        if make is None:  # an older pynvml
            return None
        info = make()
        answer = self.ask("nvmlDeviceGetGpuFabricInfo", handle, ctypes.byref(info))
        return None if answer is None else _fabric_of(info)

    def gpm_question(self, before: Any, now: Any, metrics: Iterable[int]) -> Any:
        """What `nvmlGpmMetricsGet` is given, for these metrics between two samples."""
        numbers = tuple(metrics)
        question = self._api.c_nvmlGpmMetricsGet_t(
            version=self._api.NVML_GPM_METRICS_GET_VERSION,
            numMetrics=len(numbers),
            sample1=before,
            sample2=now,
        )
        for place, number in enumerate(numbers):
            question.metrics[place].metricId = number
        return question

    def instances(self, function: str, kind: str, parent: Any, profile: int) -> list[Any]:
        """The handles of the instances of a profile; `kind` is the type of their handles."""
        handles, count = (getattr(self._api, kind) * MAX_INSTANCES)(), ctypes.c_uint(MAX_INSTANCES)
        self.call(function, parent, profile, handles, ctypes.byref(count))
        return list(handles[: count.value])

    def placements(self, gpu: Any, profile: int) -> list[tuple[int, int]] | None:
        """Where instances of a profile can be, as (start, size); None where it is not told."""
        kind = self._api.c_nvmlGpuInstancePlacement_t
        places, count = (kind * MAX_INSTANCES)(), ctypes.c_uint(MAX_INSTANCES)
        function = "nvmlDeviceGetGpuInstancePossiblePlacements"
        if self.ask(function, gpu, profile, places, ctypes.byref(count)) is None:
            return None
        return [(int(one.start), int(one.size)) for one in places[: count.value]]

    def create_instance(self, gpu: Any, profile: int, start: int, size: int) -> Any:
        """The handle of a new GPU instance at that place."""
        place = self._api.c_nvmlGpuInstancePlacement_t(start, size)
        function = "nvmlDeviceCreateGpuInstanceWithPlacement"
        return self.call(function, gpu, profile, ctypes.byref(place))

    def close(self) -> None:
        """Let the library go; handles are void afterwards."""
        try:
            self.call("nvmlShutdown")
        except LibraryError:  # it was gone before us
            return


OpenNvml = Callable[[Host, str], Nvml]


def implausible(function: str, what: str) -> LibraryError:
    """The error of a call that succeeded with an answer that cannot be true."""
    return LibraryError(function, UNKNOWN, f"it answered {what}")


def _text_of(error: Exception) -> str:
    """The library's own words, which pynvml asks it for."""
    try:
        return str(error)
    except UnicodeDecodeError:
        return "an error whose text is not UTF-8"


def handle_address(handle: Any) -> int:
    """A handle is a pointer to something opaque; equal handles have equal addresses.

    The handles of a simulated library are Python objects.
    """
    try:
        return ctypes.cast(handle, ctypes.c_void_p).value or 0
    except ctypes.ArgumentError:
        return id(handle)


def open_nvml(host: Host, driver_root: str, library_dirs: Sequence[str] = ()) -> Nvml:
    """Load libnvidia-ml from `library_dirs`, the driver root, a driver container's root (all host
    paths) or the loader's path.

    Raises UnavailableError, saying what was looked for, where there is no usable driver.
    """
    path, root = find_library(host, driver_root, library_dirs)
    library = _load(path, _places(driver_root, library_dirs))
    import pynvml  # noqa: PLC0415  # nodes without NVIDIA's driver do not pay for it

    _give(pynvml, library, path)
    nvml = Nvml(pynvml, root)
    try:
        nvml.call("nvmlInit")
    except LibraryError as error:
        raise UnavailableError(_init_advice(error, path)) from error
    return nvml


def find_library(host: Host, driver_root: str, library_dirs: Sequence[str] = ()) -> tuple[str, str]:
    """The library as this process opens it, and the driver root (host path) that it is in.

    Raises UnavailableError for one that others than root can replace: it becomes a part of us.
    """
    for root in dict.fromkeys((driver_root, *DRIVER_CONTAINER_ROOTS)):
        named = library_dirs if root == driver_root else ()
        tree = DriverTree(host, root)
        for folder in library_folders(host, root, named):
            # The real file: a replaced driver has another one, which dlopen must not take for
            # the library it has already.
            path = tree.real(f"{folder}/{FILE}")
            if path is not None:
                if problem := _untrusted(tree, folder, path):
                    raise UnavailableError(f"{folder}/{FILE} is not loaded: {problem}")
                return host.path(path), root
    return FILE, driver_root


def _untrusted(tree: DriverTree, folder: str, path: str) -> str | None:
    """Why others can replace the library: every name on the way, and where a link is one of the
    driver's own tree, which the host follows elsewhere, the folder and the file."""
    host, named = tree.host, f"{folder}/{FILE}"
    if host.read_real_path(named) == path:
        return host.untrusted(named)
    return host.untrusted(tree.real(folder) or folder) or host.untrusted(path)


def _places(driver_root: str, library_dirs: Sequence[str]) -> str:
    others = (*library_dirs, *(root for root in DRIVER_CONTAINER_ROOTS if root != driver_root))
    folders = ", ".join(FOLDERS)
    return (
        f"in the driver root {driver_root} ({folders}, nvidia* in them) nor in {', '.join(others)}"
    )


def _load(path: str, places: str) -> ctypes.CDLL:
    try:
        return ctypes.CDLL(path)
    except OSError as error:
        text = (
            f"no NVIDIA driver: {FILE} is neither {places} nor in the loader's path; if it is"
            " elsewhere, set nvidia.driver_root or nvidia.driver_library_dirs"
        )
        raise UnavailableError(text if path == FILE else f"{path}: {error}") from error


def _give(pynvml: Any, library: ctypes.CDLL, path: str) -> None:
    """Give pynvml the library: it has one for the whole process and looks for it in the loader's
    path alone, where a driver container's, or that of a replaced driver, is not."""
    if getattr(pynvml.nvmlLib, "_name", None) != path:
        pynvml.nvmlLib = library
        pynvml._nvmlGetFunctionPointer_cache.clear()  # noqa: SLF001  # functions of the old one


def _init_advice(error: LibraryError, path: str) -> str:
    if error.code == NO_PERMISSION:
        return f"{path}: {error}: this process may not open /dev/nvidiactl"
    meaning = MEANINGS.get(error.code)
    return f"{path}: {error}" + (f": {meaning.what}: {meaning.action}" if meaning else "")

"""Drivers with one defect each, by the lines that they fail."""

import json
from pathlib import Path
from typing import Any

from deviceplugin.pb import dra_health_v1alpha1_pb2 as healthapi
from deviceplugin.pb import pluginregistration_v1_pb2 as registration
from deviceplugin.testing.apiserver import SLICES
from tests.conformance.dra.small import DRIVER, ClaimError, Document, Small


class Relative(Small):
    def info(self) -> registration.PluginInfo:
        found = super().info()
        found.type = "DevicePlugin"
        return found


class OldestFirst(Small):
    def info(self) -> registration.PluginInfo:
        found = super().info()
        versions = list(found.supported_versions)
        del found.supported_versions[:]
        found.supported_versions.extend(reversed(versions))
        return found


class OneServiceWrong(Small):
    def preparing(self, service: str) -> Any:
        other = super().preparing(service)

        async def answer(request: Any, context: Any) -> Any:
            response = await other(request, context)
            for one in response.claims.values() if service.startswith("v1beta1") else ():
                one.devices[0].pool_name = "another"
            return response

        return answer


class LongPath(Small):
    """Of a path that the kernel does not take, at first."""

    asked = 0

    def info(self) -> registration.PluginInfo:
        found = super().info()
        self.asked += 1
        if self.asked > 1:
            return found
        found.endpoint = f"/{'./' * 60}{found.endpoint.lstrip('/')}"
        return found


class ForgetsAtEnd(Small):
    async def end(self) -> None:
        await super().end()
        for path in self.state_dir.iterdir():
            path.unlink()


class InMemory(Small):
    """A second instance has nothing of the first."""

    def load(self) -> None:
        if not self.entries:
            super().load()

    def another(self) -> Small:
        other = Small.another(self)
        other.state_dir = self.root / "other"
        other.state_dir.mkdir()
        other.refusal = lambda device, entry: "no"  # type: ignore[method-assign]  # its own state
        other.read = _unreadable  # type: ignore[method-assign]  # nothing to begin anew with
        return other


def _unreadable(namespace: str, name: str) -> Document:
    raise ClaimError(f"claim {namespace}/{name} is not known here")


class LeavesSockets(Small):
    def remove_sockets(self) -> None:
        for _, path in self.servers:
            path.touch() if path.exists() else _bind(path)


def _bind(path: Path) -> None:
    import socket  # noqa: PLC0415  # here alone

    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(path))


class EndsWhenRefused(Small):
    async def told(self, *, registered: bool) -> None:
        if not registered:
            self.registry.unlink(missing_ok=True)


class Ownerless(Small):
    def metadata(self) -> Document:
        return {"generateName": f"00000-{DRIVER}-"}


class Invalid(Small):
    """Each write with a name that is none goes before the right one."""

    def wrong(self) -> Document:
        spec = self.spec()
        spec["devices"][0]["name"] = "Not_A_Label"
        return spec

    def publish(self) -> None:
        if not self.api.slices:
            spec = self.wrong()
            try:
                self.api.request("POST", SLICES, {"metadata": self.metadata(), "spec": spec})
            except Exception:  # noqa: BLE001  # whatever it was, the next is right
                super().publish()
        else:
            super().publish()


class BadVersion(Small):
    def device(self, name: str) -> Document:
        found = super().device(name)
        found["attributes"]["driverVersion"] = {"version": "1.2.3-"}
        return found


class Mixed(Invalid):
    """Each write in the form of another release goes before the right one."""

    def wrong(self) -> Document:
        counters = [{"name": "set", "counters": {"memory": {"value": "1"}}}]
        return {**self.spec(), "sharedCounters": counters}


class WritesOn(Small):
    """As if what the server has were never what was wanted."""

    def publish(self) -> None:
        if self.broken and self.api.slices and "DRADeviceTaints" not in self.api.gates:
            self.put(next(iter(self.api.slices.values())), self.spec())
        else:
            super().publish()


class NeverLooks(Small):
    published = False

    def publish(self) -> None:
        if not self.published or self.api.slices:
            super().publish()
            type(self).published = True


class Restless(Small):
    def publish(self) -> None:
        super().publish()
        self.put(next(iter(self.api.slices.values())), self.spec())


class Shuffles(Small):
    lives = 0

    async def start(self) -> None:
        type(self).lives += 1
        await super().start()

    def names(self) -> list[str]:
        return sorted(super().names(), reverse=self.lives % 2 == 0)


class NewGenerations(Small):
    generation = 1

    def publish(self) -> None:
        failing = sorted(self.broken)
        if failing != getattr(self, "failing", []):
            self.failing = failing
            self.generation += 1
        super().publish()

    def spec(self) -> Document:
        spec = super().spec()
        spec["pool"]["generation"] = self.generation
        return spec


class NeedsServer(Small):
    def prepare(self, uid: str, namespace: str, name: str) -> list[Document]:
        self.read(namespace, name)
        return super().prepare(uid, namespace, name)


class GivesUp(Small):
    """A conflict is the last write."""

    gave_up = False

    def publish(self) -> None:
        if self.gave_up:
            return
        conflicts = self.api.conflicts
        try:
            super().publish()
        finally:
            self.gave_up = conflicts > 0


class TakesOut(Small):
    def spec(self) -> Document:
        spec = super().spec()
        spec["devices"] = [one for one in spec["devices"] if one["name"] not in self.broken]
        return spec


class Unlike(Small):
    def device(self, name: str) -> Document:
        found = super().device(name)
        if name.endswith("1"):
            del found["attributes"]["driverVersion"]
        return found


class UnknownCounter(Small):
    def device(self, name: str) -> Document:
        consumed = [{"counterSet": "none", "counters": {"memory": {"value": "1"}}}]
        return {**super().device(name), "consumesCounters": consumed}


class TakesAnyUid(Small):
    def results(self, claim: Document, uid: str) -> list[Document]:
        return super().results(claim, claim["metadata"]["uid"])


class TakesForeign(Small):
    def results(self, claim: Document, uid: str) -> list[Document]:
        super().results(claim, uid)
        results: list[Document] = claim["status"]["allocation"]["devices"]["results"]
        return results

    def check_device(self, uid: str, result: Document) -> None:
        if result["driver"] == DRIVER:
            super().check_device(uid, result)


class AnswersDiffer(Small):
    times = 0

    def answer(self, uid: str, result: Document) -> Document:
        self.times += 1
        found = super().answer(uid, result)
        return {**found, "request_names": [f"gpu-{self.times // 2}"]}


class GivesTwice(Small):
    def check_holders(self, uid: str, device: str) -> None:
        pass


class NamesNobody(Small):
    def refusal(self, device: str, entry: Document) -> str:
        return f"{device} is in use"


class BelievesItself(Small):
    """Holders are never looked for."""

    def reconcile(self) -> None:
        pass


class RefusesAdmin(Small):
    def check_device(self, uid: str, result: Document) -> None:
        super().check_device(uid, {**result, "adminAccess": False})


class TakesAnyField(Small):
    def check_parameters(self, parameters: Document) -> None:
        pass


class NoCdi(Small):
    def write_cdi(self, uid: str, results: list[Document]) -> None:
        pass


class LosesShares(Small):
    def answer(self, uid: str, result: Document) -> Document:
        return {**super().answer(uid, result), "share_id": None}


class HoldsInPart(Small):
    """What is checked first is kept, though the next fails."""

    def check_device(self, uid: str, result: Document) -> None:
        super().check_device(uid, result)
        self.keep(uid, {"namespace": "default", "name": "half", "results": [result]})

    def is_gone(self, uid: str, entry: Document) -> bool:
        return entry["name"] != "half" and super().is_gone(uid, entry)


class Chatty(Small):
    def refusal(self, device: str, entry: Document) -> str:
        return f"Traceback:\n {super().refusal(device, entry)}"


class RefusesUnknown(Small):
    def unprepare(self, uid: str) -> None:
        if uid not in self.entries:
            raise ClaimError(f"claim of uid {uid} is not known")
        super().unprepare(uid)


class LeavesFiles(Small):
    def unprepare(self, uid: str) -> None:
        kept = self.cdi_dir / f"{uid}.json"
        text = kept.read_text() if kept.exists() else ""
        super().unprepare(uid)
        if text and uid in json.loads(text)["devices"][0]["name"]:
            kept.write_text(text)


class PreparesLate(Small):
    def check(self, claim: Document, uid: str, results: list[Document]) -> None:
        reserved = claim["status"].setdefault("reservedFor", [])
        super().check(
            {**claim, "status": {**claim["status"], "reservedFor": [*reserved, 1]}}, uid, results
        )


class RefusesForEver(Small):
    """A uid that was unprepared once is never prepared again."""

    def __init__(self, root: Path, api: Any) -> None:
        super().__init__(root, api)
        self.tombs: set[str] = set()

    def unprepare(self, uid: str) -> None:
        super().unprepare(uid)
        self.tombs.add(uid)

    def check(self, claim: Document, uid: str, results: list[Document]) -> None:
        super().check(claim, uid, results)
        if uid in self.tombs:
            raise ClaimError(f"claim of uid {uid} has been unprepared")


class OutlivesBoots(Small):
    def reboot(self) -> bool:
        return True


class DiesOfDamage(Small):
    def load(self) -> None:
        for path in self.state_dir.glob("*.json"):
            json.loads(path.read_text())
        super().load()


class KeepsDeleted(Small):
    def reconcile(self) -> None:
        pass


class OpenFiles(Small):
    def mode(self) -> int:
        return 0o644


class SilentStream(Small):
    def health(self) -> list[healthapi.DeviceHealth]:
        return super().health()[:-1]


class StickyTaint(Small):
    def fail(self, device: str | None) -> bool:
        self.broken |= {device} if device else set()
        return True


class TakesOver(Small):
    """A socket is put in place of whatever is there."""

    async def live(self) -> None:
        self.endpoint.unlink(missing_ok=True)
        await super().live()


DEFECTS: dict[str, tuple[type[Small], set[int]]] = {
    "type": (Relative, {1}),
    "oldest-first": (OldestFirst, {1}),
    "service": (OneServiceWrong, {2}),
    "long-path": (LongPath, {3}),
    "in-memory": (InMemory, {4}),
    "forgets": (ForgetsAtEnd, {5}),
    "sockets": (LeavesSockets, {5}),
    "refused": (EndsWhenRefused, {6}),
    "ownerless": (Ownerless, {7}),
    "invalid": (Invalid, {8}),
    "version": (BadVersion, {9}),
    "mixed": (Mixed, {8, 10}),
    "writes-on": (WritesOn, {11}),
    "never-looks": (NeverLooks, {12}),
    "restless": (Restless, {13}),
    "shuffles": (Shuffles, {13}),
    "generations": (NewGenerations, {14}),
    "needs-server": (NeedsServer, {15}),
    "gives-up": (GivesUp, {16}),
    "takes-out": (TakesOut, {17}),
    "unlike": (Unlike, {18}),
    "counter": (UnknownCounter, {19}),
    "any-uid": (TakesAnyUid, {20}),
    "foreign": (TakesForeign, {20}),
    "differs": (AnswersDiffer, {21}),
    "twice": (GivesTwice, {22}),
    "nobody": (NamesNobody, {22}),
    "believes": (BelievesItself, {22}),
    "admin": (RefusesAdmin, {23}),
    "any-field": (TakesAnyField, {24}),
    "no-cdi": (NoCdi, {25}),
    "shares": (LosesShares, {26}),
    "in-part": (HoldsInPart, {28}),
    "chatty": (Chatty, {29}),
    "unknown": (RefusesUnknown, {30}),
    "files": (LeavesFiles, {31}),
    "late": (PreparesLate, {32}),
    "for-ever": (RefusesForEver, {32}),
    "boots": (OutlivesBoots, {34}),
    "damage": (DiesOfDamage, {35}),
    "deleted": (KeepsDeleted, {36}),
    "open": (OpenFiles, {37}),
    "stream": (SilentStream, {38}),
    "sticky": (StickyTaint, {39}),
    "takes-over": (TakesOver, {44}),
}

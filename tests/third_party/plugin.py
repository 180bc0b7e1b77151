"""Third parties' vendors as an installation makes them: a module and its entry point on a path."""

from pathlib import Path

# `example.com/thing` for each node in /dev/example; a whole vendor, with a section of its own.
WELL_BEHAVED = """
import threading

from deviceplugin.errors import UnavailableError
from deviceplugin.model import ContainerEdits, Device, DeviceNode, Discovery, Fault, frozen
from deviceplugin.schema import Section

NAME = "example"


class ExampleSection(Section, frozen=True):
    greeting: str = "hello"


SECTIONS = {"example": ExampleSection}


class Vendor:
    name = NAME

    def __init__(self, host, section):
        self.host, self.section = host, section

    def discover(self):
        devices = tuple(self.thing(name) for name in self.host.read_names("/dev/example"))
        if not devices:
            raise UnavailableError("no thing in /dev/example")
        return Discovery(devices=devices)

    def thing(self, name, **changes):
        values = {
            "id": f"thing-{name}",
            "vendor": NAME,
            "resource": "example.com/thing",
            "nodes": (f"/dev/example/{name}",),
        }
        return Device(**values | changes)

    def container_edits(self, devices):
        return ContainerEdits(
            env=frozen({"GREETING": self.section.greeting}),
            device_nodes=tuple(
                DeviceNode(path=node, host_path=node) for d in devices for node in d.nodes
            ),
        )


def create(host, sections):
    return Vendor(host, sections["example"])
"""


def install(directory: Path, source: str, name: str = "example") -> str:
    """Install `source` as the vendor `name` below `directory`, which then belongs on a path."""
    module = f"{name}_vendor"
    package = directory / module
    package.mkdir(parents=True, exist_ok=True)
    (package / "__init__.py").write_text(source)
    info = directory / f"{module}-1.0.dist-info"
    info.mkdir(exist_ok=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[deviceplugin.vendors]\n{name} = {module}\n")
    return str(directory)


def spoilt(method: str) -> str:
    """The well-behaved vendor with a method instead of, or beside, one of its own."""
    body = "\n".join(f"    {line}" for line in method.strip("\n").splitlines())
    return f"{WELL_BEHAVED}\n\nclass Spoilt(Vendor):\n{body}\n\n\nVendor = Spoilt\n"

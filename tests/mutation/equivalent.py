"""Faults that change nothing anybody can see: by reading, each with its reason."""

from pathlib import Path

LIST = Path(__file__).with_name("equivalent.txt")


def equivalents(module: str) -> frozenset[str]:
    """The names of a module's equivalent mutants; `module` is its path below deviceplugin/."""
    return frozenset(name for file, name in all_equivalents() if file == module)


def all_equivalents() -> list[tuple[str, str]]:
    """Module and name of each: a line that begins with `# ` is the reason of those below it."""
    found: list[tuple[str, str]] = []
    for line in LIST.read_text().splitlines():
        if line and not line.startswith("#"):
            file, _, name = line.partition(" ")
            found.append((file, name))
    return found
